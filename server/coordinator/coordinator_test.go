package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"storj.io/drpc/drpcmux"

	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/tailnetpb"
)

func TestMain(m *testing.M) { testtool.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// anyone may ask for everything.
type anyone struct{}

func (anyone) Check(*tailnetpb.CoordinateRequest) error { return nil }

// end is one peer's end of a Coordinate stream.
type end struct {
	t      testing.TB
	id     uuid.UUID
	client *wire.Client
	api    tailnetpb.DRPCTailnetClient
	stream tailnetpb.DRPCTailnet_CoordinateClient
	got    chan string // what came, in words
	ended  chan error  // how the session of the server's side ended
}

func newCoordinator(t testing.TB) *Coordinator {
	c := New(Options{DERPMap: func() *tailnetpb.DERPMap {
		return &tailnetpb.DERPMap{HomeParams: &tailnetpb.DERPMap_HomeParams{}}
	}})
	t.Cleanup(c.Close)
	return c
}

// session opens a session of a peer, without a Coordinate stream.
func session(t testing.TB, c *Coordinator, id uuid.UUID, auth Auth) *end {
	t.Helper()
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancelCause(context.Background())
	mux := drpcmux.New()
	must(t, tailnetpb.DRPCRegisterTailnet(mux, c.Peer(id, auth, cancel)))
	e := &end{t: t, id: id, got: make(chan string, 2*responseQueue), ended: make(chan error, 1)}
	var serving sync.WaitGroup
	serving.Go(func() {
		err := wire.Serve(ctx, theirs, mux, wire.ServeOptions{})
		if cause := context.Cause(ctx); cause != nil {
			err = cause // rather than what it led to
		}
		e.ended <- err
	})
	var err error
	e.client, err = wire.NewClient(ours)
	must(t, err)
	e.api = tailnetpb.NewDRPCTailnetClient(e.client)
	t.Cleanup(func() { _ = e.client.Close(); cancel(nil); serving.Wait() })
	return e
}

// join opens a peer's stream and waits until the coordinator has it.
func join(t testing.TB, c *Coordinator, id uuid.UUID, auth Auth) *end {
	t.Helper()
	e := session(t, c, id, auth)
	c.mu.Lock()
	old := c.peers[id]
	c.mu.Unlock()
	var err error
	e.stream, err = e.api.Coordinate(context.Background())
	must(t, err)
	var reading sync.WaitGroup
	reading.Go(e.read)
	t.Cleanup(func() { _ = e.client.Close(); reading.Wait() })
	poll(t, "the peer", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.peers[id] != nil && c.peers[id] != old
	})
	return e
}

func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (e *end) read() {
	defer close(e.got)
	for {
		r, err := e.stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				e.got <- "closed"
			}
			return
		}
		if r.Error != "" {
			e.got <- "error: " + r.Error
		}
		for _, u := range r.PeerUpdates {
			text := fmt.Sprintf("%s %s %q", short(u.Id), u.Kind, u.Reason)
			if u.Node != nil {
				text += fmt.Sprintf(" node %d", u.Node.Id)
			}
			e.got <- text
		}
	}
}

func short(id []byte) string { return fmt.Sprintf("%x", id[:1]) }

// want checks what came next, and nothing else.
func (e *end) want(texts ...string) {
	e.t.Helper()
	var got []string
	for range texts {
		select {
		case g, ok := <-e.got:
			if !ok {
				e.t.Fatalf("the stream of %s ended after %q, want %q", short(e.id[:]), got, texts)
			}
			got = append(got, g)
		case <-time.After(time.Minute):
			e.t.Fatalf("%s got %q, want %q", short(e.id[:]), got, texts)
		}
	}
	if diff := cmp.Diff(texts, got); diff != "" {
		e.t.Errorf("%s (-want +got):\n%s", short(e.id[:]), diff)
	}
}

// quiet checks that nothing came: a request that is answered at once comes back
// first.
func (e *end) quiet() {
	e.t.Helper()
	e.send(&tailnetpb.CoordinateRequest{ReadyForHandshake: []*tailnetpb.CoordinateRequest_ReadyForHandshake{{Id: make([]byte, 16)}}})
	e.want("error: ready for handshake error: no tunnel with " + uuid.Nil.String())
}

func (e *end) send(r *tailnetpb.CoordinateRequest) {
	e.t.Helper()
	must(e.t, e.stream.Send(r))
}

func self(id int64) *tailnetpb.CoordinateRequest {
	return &tailnetpb.CoordinateRequest{UpdateSelf: &tailnetpb.CoordinateRequest_UpdateSelf{Node: &tailnetpb.Node{Id: id, PreferredDerp: 1}}}
}

func add(id uuid.UUID) *tailnetpb.CoordinateRequest {
	return &tailnetpb.CoordinateRequest{AddTunnel: &tailnetpb.CoordinateRequest_Tunnel{Id: id[:]}}
}

func remove(id uuid.UUID) *tailnetpb.CoordinateRequest {
	return &tailnetpb.CoordinateRequest{RemoveTunnel: &tailnetpb.CoordinateRequest_Tunnel{Id: id[:]}}
}

func ready(ids ...uuid.UUID) *tailnetpb.CoordinateRequest {
	r := &tailnetpb.CoordinateRequest{}
	for _, id := range ids {
		r.ReadyForHandshake = append(r.ReadyForHandshake, &tailnetpb.CoordinateRequest_ReadyForHandshake{Id: id[:]})
	}
	return r
}

func disconnect() *tailnetpb.CoordinateRequest {
	return &tailnetpb.CoordinateRequest{Disconnect: &tailnetpb.CoordinateRequest_Disconnect{}}
}

// Peers are named by their first byte.
func named(first byte) uuid.UUID {
	id := uuid.New()
	id[0] = first
	return id
}

// pair are a client c1 and an agent a1 with a tunnel and nodes, both told.
func pair(t *testing.T, c *Coordinator) (client, agent *end) {
	agent, client = join(t, c, named(0xa1), anyone{}), join(t, c, named(0xc1), anyone{})
	agent.send(self(1))
	poll(t, "the agent's node", func() bool { return c.Node(agent.id) != nil })
	client.send(self(2))
	client.send(add(agent.id))
	agent.want(`c1 NODE "add tunnel" node 2`)
	client.want(`a1 NODE "add tunnel" node 1`)
	return client, agent
}

// TestStateMachine is contract agent-api.md section 5.5, row by row.
func TestStateMachine(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, c *Coordinator)
	}{
		{"nobody hears of a node without a tunnel", func(t *testing.T, c *Coordinator) {
			a, b := join(t, c, named(0xa1), anyone{}), join(t, c, named(0xb1), anyone{})
			a.send(self(1))
			a.quiet()
			b.quiet()
		}},
		{"a tunnel to somebody who comes later", func(t *testing.T, c *Coordinator) {
			agent := named(0xa1)
			client := join(t, c, named(0xc1), anyone{})
			client.send(add(agent))
			client.send(self(2))
			client.quiet()
			a := join(t, c, agent, anyone{})
			a.want(`c1 NODE "init" node 2`)
			a.send(self(1))
			client.want(`a1 NODE "node update" node 1`)
		}},
		{"a node is told when the tunnel is there already", func(t *testing.T, c *Coordinator) {
			agent, client := join(t, c, named(0xa1), anyone{}), join(t, c, named(0xc1), anyone{})
			client.send(add(agent.id))
			client.send(self(2))
			agent.want(`c1 NODE "node update" node 2`)
			agent.send(self(1))
			client.want(`a1 NODE "node update" node 1`)
		}},
		{"the same node is not told twice", func(t *testing.T, c *Coordinator) {
			client, agent := pair(t, c)
			agent.send(self(1))
			client.send(add(agent.id))
			client.quiet()
			agent.quiet()
			agent.send(self(3))
			client.want(`a1 NODE "node update" node 3`)
		}},
		{"remove_tunnel", func(t *testing.T, c *Coordinator) {
			client, agent := pair(t, c)
			client.send(remove(agent.id))
			client.want(`a1 DISCONNECTED "remove tunnel"`)
			agent.want(`c1 DISCONNECTED "remove tunnel"`)
			agent.send(self(4))
			client.quiet()
			client.send(add(agent.id)) // the filter of duplicates was reset
			client.want(`a1 NODE "add tunnel" node 4`)
			agent.want(`c1 NODE "add tunnel" node 2`)
		}},
		{"remove_tunnel before any node says nothing", func(t *testing.T, c *Coordinator) {
			agent, client := join(t, c, named(0xa1), anyone{}), join(t, c, named(0xc1), anyone{})
			client.send(add(agent.id))
			client.send(remove(agent.id))
			client.quiet()
			agent.quiet()
		}},
		{"remove_tunnel of another's tunnel does nothing", func(t *testing.T, c *Coordinator) {
			client, agent := pair(t, c)
			agent.send(remove(client.id))
			agent.quiet()
			client.quiet()
		}},
		{"remove_tunnel while the other one has a tunnel too", func(t *testing.T, c *Coordinator) {
			client, agent := pair(t, c)
			agent.send(add(client.id))
			agent.quiet()
			client.send(remove(agent.id))
			client.quiet()
			agent.send(self(9))
			client.want(`a1 NODE "node update" node 9`)
		}},
		{"disconnect of a client", func(t *testing.T, c *Coordinator) {
			client, agent := pair(t, c)
			client.send(disconnect())
			client.want("closed")
			agent.want(`c1 DISCONNECTED "graceful disconnect"`)
			agent.send(ready(client.id)) // its tunnel is gone
			agent.want("error: ready for handshake error: no tunnel with " + client.id.String())
		}},
		{"disconnect of an agent", func(t *testing.T, c *Coordinator) {
			client, agent := pair(t, c)
			agent.send(disconnect())
			agent.want("closed")
			client.want(`a1 DISCONNECTED "graceful disconnect"`)
			again := join(t, c, agent.id, anyone{}) // the tunnel survives
			again.want(`c1 NODE "init" node 2`)
			again.send(self(1))
			client.want(`a1 NODE "node update" node 1`)
		}},
		{"everything before disconnect in one message counts", func(t *testing.T, c *Coordinator) {
			client, agent := pair(t, c)
			r := self(8)
			r.Disconnect = &tailnetpb.CoordinateRequest_Disconnect{}
			agent.send(r)
			client.want(`a1 NODE "node update" node 8`, `a1 DISCONNECTED "graceful disconnect"`)
		}},
		{"a lost session", func(t *testing.T, c *Coordinator) {
			client, agent := pair(t, c)
			must(t, agent.client.Close())
			client.want(`a1 LOST "lost"`)
			again := join(t, c, agent.id, anyone{})
			again.want(`c1 NODE "init" node 2`)
			must(t, client.client.Close())
			again.want(`c1 LOST "lost"`)
			again.send(ready(client.id))
			again.want("error: ready for handshake error: no tunnel with " + client.id.String())
		}},
		{"a stream that ends without disconnect", func(t *testing.T, c *Coordinator) {
			client, agent := pair(t, c)
			must(t, agent.stream.CloseSend())
			client.want(`a1 LOST "lost"`)
			agent.want("closed")
		}},
		{"a second stream of the same peer", func(t *testing.T, c *Coordinator) {
			client, agent := pair(t, c)
			second := join(t, c, agent.id, anyone{})
			agent.want("error: peer ID overwritten by new connection", "closed")
			second.want(`c1 NODE "init" node 2`)
			client.quiet() // nothing was lost
			second.send(self(5))
			client.want(`a1 NODE "node update" node 5`)
			if n := c.count(); n != 2 {
				t.Errorf("%d peers", n)
			}
		}},
		{"ready_for_handshake", func(t *testing.T, c *Coordinator) {
			client, agent := pair(t, c)
			agent.send(ready(client.id))
			client.want(`a1 READY_FOR_HANDSHAKE ""`)
			client.send(ready(agent.id)) // both directions of a tunnel
			agent.want(`c1 READY_FOR_HANDSHAKE ""`)
			stranger := named(0xee)
			agent.send(ready(stranger, client.id)) // the stream stays open
			agent.want("error: ready for handshake error: no tunnel with " + stranger.String())
			client.want(`a1 READY_FOR_HANDSHAKE ""`)
		}},
		{"ready_for_handshake for somebody who is away", func(t *testing.T, c *Coordinator) {
			client, agent := pair(t, c)
			agent.send(disconnect())
			client.want(`a1 DISCONNECTED "graceful disconnect"`)
			client.send(ready(agent.id))
			client.quiet()
		}},
		{"shutdown", func(t *testing.T, c *Coordinator) {
			client, agent := pair(t, c)
			c.Close()
			client.want(`a1 LOST "lost"`, "error: coordinator closed", "closed")
			agent.want(`c1 LOST "lost"`, "error: coordinator closed", "closed")
			late := session(t, c, named(0xb1), anyone{})
			stream, err := late.api.Coordinate(t.Context())
			must(t, err)
			if _, err := stream.Recv(); err == nil || !strings.Contains(err.Error(), "coordinator closed") {
				t.Errorf("a stream after the end: %v", err)
			}
		}},
		{"a node without a node", func(t *testing.T, c *Coordinator) {
			client, agent := pair(t, c)
			agent.send(&tailnetpb.CoordinateRequest{UpdateSelf: &tailnetpb.CoordinateRequest_UpdateSelf{}})
			agent.want("error: update_self without a node", "closed")
			client.want(`a1 LOST "lost"`)
		}},
		{"a malformed add_tunnel", func(t *testing.T, c *Coordinator) {
			p := join(t, c, named(1), anyone{})
			p.send(&tailnetpb.CoordinateRequest{AddTunnel: &tailnetpb.CoordinateRequest_Tunnel{Id: []byte("x")}})
			p.want("error: add_tunnel.id has 1 bytes, not 16", "closed")
		}},
		{"a malformed remove_tunnel", func(t *testing.T, c *Coordinator) {
			p := join(t, c, named(1), anyone{})
			p.send(&tailnetpb.CoordinateRequest{RemoveTunnel: &tailnetpb.CoordinateRequest_Tunnel{}})
			p.want("error: remove_tunnel.id has 0 bytes, not 16", "closed")
		}},
		{"a malformed ready_for_handshake", func(t *testing.T, c *Coordinator) {
			p := join(t, c, named(1), anyone{})
			p.send(&tailnetpb.CoordinateRequest{ReadyForHandshake: []*tailnetpb.CoordinateRequest_ReadyForHandshake{{Id: make([]byte, 17)}}})
			p.want("error: ready_for_handshake.id has 17 bytes, not 16", "closed")
		}},
		{"an empty request", func(t *testing.T, c *Coordinator) {
			p := join(t, c, named(1), anyone{})
			p.send(&tailnetpb.CoordinateRequest{})
			p.quiet()
		}},
		{"a tunnel to oneself", func(t *testing.T, c *Coordinator) {
			p := join(t, c, named(1), anyone{})
			p.send(add(p.id))
			p.send(self(1))
			p.quiet()
			p.send(disconnect())
			p.want("closed")
		}},
		{"too many tunnels", func(t *testing.T, c *Coordinator) {
			p := join(t, c, named(1), anyone{})
			for range maxTunnels + 1 {
				p.send(add(uuid.New()))
			}
			p.want("error: more than 1024 tunnels", "closed")
			poll(t, "no tunnels", c.noTunnels)
		}},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, newCoordinator(t)) })
	}
}

func (c *Coordinator) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.peers)
}

func (c *Coordinator) noTunnels() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.tunnels.from)+len(c.tunnels.to) == 0
}

func (c *counts) get(reason string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m[reason]
}

func TestNode(t *testing.T) {
	c := newCoordinator(t)
	_, agent := pair(t, c)
	if n := c.Node(agent.id); n.GetId() != 1 {
		t.Errorf("node %v", n)
	}
	agent.send(disconnect())
	agent.want("closed")
	if c.Node(agent.id) != nil {
		t.Error("the node of a peer that left")
	}
}

// TestNode_IsTold: a page that shows nodes hears of an agent's first one and of
// another one, and not of each update of the same, nor of those of clients.
func TestNode_IsTold(t *testing.T) {
	var told atomic.Int64
	c := New(Options{DERPMap: newCoordinator(t).o.DERPMap, OnAgentNode: func() { told.Add(1) }})
	t.Cleanup(c.Close)
	agent, client := join(t, c, theAgent(), AgentAuth{theAgent()}), join(t, c, named(0xc1), ClientAuth{AgentID: theAgent()})
	for i, step := range []struct {
		of   *end
		node int64
		want int64
	}{{agent, 1, 1}, {agent, 1, 1}, {client, 7, 1}, {agent, 2, 2}} {
		update := holding(step.node, "fd7a:115c:a1e0:1::1/128")
		if step.of == agent {
			update = self(step.node)
		}
		update.UpdateSelf.Node.PreferredDerp = int32(i)
		step.of.send(update)
		poll(t, "the node", func() bool { return proto.Equal(c.Node(step.of.id), update.GetUpdateSelf().GetNode()) })
		if got := told.Load(); got != step.want {
			t.Errorf("after step %d it was told %d times, want %d", i, got, step.want)
		}
	}
}

// TestQueueFull has a peer that does not read: it is removed, its session ends,
// and everybody else goes on.
func TestQueueFull(t *testing.T) {
	c := newCoordinator(t)
	client, agent := pair(t, c)
	deaf := session(t, c, named(0xdd), anyone{})
	stream, err := deaf.api.Coordinate(t.Context()) // nobody receives on it
	must(t, err)
	must(t, stream.Send(self(7)))
	must(t, stream.Send(add(agent.id)))
	agent.want(`dd NODE "add tunnel" node 7`)
	big := strings.Repeat("x", 4096)
	for i := range int64(2 * responseQueue) {
		r := self(100 + i)
		r.UpdateSelf.Node.Endpoints = []string{big} // more than the windows of the transport take
		agent.send(r)
		client.want(fmt.Sprintf(`a1 NODE "node update" node %d`, 100+i))
	}
	agent.want(`dd LOST "lost"`)
	select {
	case err := <-deaf.ended:
		if !errors.Is(err, errNotReading) {
			t.Errorf("the session ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the session of the deaf peer lives")
	}
	if c.c.get(reasonQueueFull) == 0 || c.count() != 2 {
		t.Errorf("counted %d, %d peers", c.c.get(reasonQueueFull), c.count())
	}
}

func TestDERPMaps(t *testing.T) {
	var mu sync.Mutex
	m := &tailnetpb.DERPMap{HomeParams: &tailnetpb.DERPMap_HomeParams{}}
	c := New(Options{DERPMap: func() *tailnetpb.DERPMap {
		mu.Lock()
		defer mu.Unlock()
		return proto.CloneOf(m)
	}})
	defer c.Close()
	e := session(t, c, uuid.New(), anyone{})
	stream, err := e.api.StreamDERPMaps(t.Context(), &tailnetpb.StreamDERPMapsRequest{})
	must(t, err)
	first, err := stream.Recv()
	must(t, err)
	if first.HomeParams == nil {
		t.Error("no home params")
	}
	mu.Lock()
	m.Regions = map[int64]*tailnetpb.DERPMap_Region{7: {RegionId: 7}}
	mu.Unlock()
	second, err := stream.Recv() // within mapCheck
	must(t, err)
	if second.Regions[7] == nil {
		t.Errorf("second map %v", second)
	}
}

// TestStorm has peers come, go and talk at once; nothing may stay.
func TestStorm(t *testing.T) {
	c := newCoordinator(t)
	agent := join(t, c, named(0xa1), anyone{})
	agent.send(self(1))
	var draining, group sync.WaitGroup
	draining.Go(func() {
		for range agent.got {
		}
	})
	for i := range 8 {
		group.Go(func() {
			for j := range 5 {
				p := session(t, c, named(byte(i)), anyone{})
				ctx, cancel := context.WithCancel(context.Background())
				stream, err := p.api.Coordinate(ctx)
				if err != nil {
					t.Error(err)
					cancel()
					return
				}
				for _, r := range []*tailnetpb.CoordinateRequest{add(agent.id), self(int64(i)), ready(agent.id), remove(agent.id), add(agent.id)} {
					if err := stream.Send(r); err != nil {
						t.Error(err)
						break
					}
				}
				if j%2 == 0 {
					_ = stream.Send(disconnect())
					for err == nil {
						_, err = stream.Recv()
					}
				}
				_ = p.client.Close()
				cancel() // what came and was not read would wait for a reader
			}
		})
	}
	group.Wait()
	poll(t, "only the agent", func() bool { return c.count() == 1 })
	poll(t, "no tunnels", c.noTunnels)
	agent.send(disconnect())
	draining.Wait()
}
