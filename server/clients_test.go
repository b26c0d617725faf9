package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/worktally/worktally/client"
	"github.com/worktally/worktally/tailnet"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// transfer sends a megabyte there and back.
func transfer(t *testing.T, p *person) {
	t.Helper()
	c := p.stream()
	must(t, c.SetDeadline(time.Now().Add(patience)))
	payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(payload)
		sent <- err
	}()
	got := make([]byte, len(payload))
	_, err := io.ReadFull(c, got)
	must(t, err)
	must(t, <-sent)
	if !bytes.Equal(got, payload) {
		t.Error("other bytes came back")
	}
}

// path is how the agent is reached. A ping may be lost.
func (p *person) path() (path tailnet.Path) {
	p.t.Helper()
	poll(p.t, "an answer to a ping", func() bool {
		ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Second)
		defer cancel()
		r, err := p.Ping(ctx)
		path = r.Path
		return err == nil
	})
	return path
}

func TestClients_ReachTheAgent(t *testing.T) {
	for _, c := range []struct {
		name   string
		relays Relays
		path   tailnet.Path
	}{
		{"directly", Relays{}, tailnet.PathP2P},
		{"over the relay", Relays{BlockDirect: true}, tailnet.PathDERP},
		{"over the relay's websocket", Relays{BlockDirect: true, ForceWebsockets: true}, tailnet.PathDERP},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, Options{Relays: c.relays})
			w.agent.BlockDirect(c.relays.BlockDirect)
			p := w.dial(w.admin, "dev")
			transfer(t, p)
			poll(t, "the path", func() bool { return p.path() == c.path })
			transfer(t, p)
			if c.path == tailnet.PathDERP {
				if path := p.path(); path != tailnet.PathDERP {
					t.Errorf("after more bytes the path is %v", path)
				}
			}
		})
	}
}

// TestClients_Manifest: agents are told what clients are.
func TestClients_Manifest(t *testing.T) {
	w := newWorld(t, Options{Relays: Relays{BlockDirect: true, ForceWebsockets: true}, HostnameSuffix: "wt"})
	info, err := client.API{URL: w.url, Token: w.admin}.ConnectionInfo(t.Context(), w.agentID)
	http.DefaultClient.CloseIdleConnections()
	must(t, err)
	if !info.DisableDirect || !info.ForceWebsockets || info.HostnameSuffix != "wt" {
		t.Errorf("clients are told %+v", info)
	}
	ws, _, err := websocket.Dial(t.Context(), w.url.String()+"/api/v2/workspaceagents/me/rpc?version=2.6", &websocket.DialOptions{
		HTTPHeader: http.Header{"Cookie": {wire.TokenCookie + "=" + w.apply("other")}},
	})
	must(t, err)
	conn, err := wire.NewClient(websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
	must(t, err)
	defer conn.Close()
	m, err := agentpb.NewDRPCAgentClient(conn).GetManifest(t.Context(), &agentpb.GetManifestRequest{})
	must(t, err)
	if !m.GetDisableDirectConnections() || !m.GetDerpForceWebsockets() {
		t.Errorf("agents are told %v, %v", m.GetDisableDirectConnections(), m.GetDerpForceWebsockets())
	}
	// Both forms of the relay map come from one source; that they say the same is
	// controlapi's test.
	var text struct {
		Map struct {
			Regions map[string]struct{ RegionName string }
		} `json:"derp_map"`
	}
	must(t, json.Unmarshal([]byte(w.call(w.admin, "GET", "/api/v2/workspaceagents/connection", "", 200)), &text))
	if text.Map.Regions["999"].RegionName != m.GetDerpMap().GetRegions()[999].GetRegionName() || text.Map.Regions["999"].RegionName == "" {
		t.Errorf("clients are told %+v, agents %v", text, m.GetDerpMap())
	}
}

// TestClients_ResumeAfterACut: a client that has lost its connection is the same
// peer again, and what runs goes on; with a token that is no good it is another
// peer, and what runs goes on too.
func TestClients_ResumeAfterACut(t *testing.T) {
	w := newWorld(t, Options{})
	p := w.dial(w.admin, "dev")
	c := p.stream()
	must(t, alive(c, patience))
	before := w.peers()
	if len(before) != 1 {
		t.Fatalf("the agent's peers are %v", before)
	}
	id := slices.Collect(maps.Keys(before))[0]
	node := w.server.coordinator.Node(id)
	p.cut()
	poll(t, "the same peer again", func() bool {
		now := w.server.coordinator.Node(id)
		return now != nil && now != node
	})
	must(t, alive(c, patience))
	if now := w.peers(); !maps.Equal(now, before) {
		t.Errorf("peers were %v and are %v", before, now)
	}

	w.stop()
	must(t, os.Remove(filepath.Join(w.o.StateDir, resumeKeyFile)))
	w.start()
	poll(t, "the agent", func() bool { return w.server.coordinator.Node(w.agentID) != nil })
	poll(t, "another peer", func() bool { return w.gather("worktally_client_sessions") == 1 })
	must(t, alive(c, patience))
	if n := w.server.coordinator.Node(id); n != nil {
		t.Error("it is the same peer without a good token")
	}
	if n := w.gather("worktally_client_resume_tokens_refused_total"); n != 1 {
		t.Errorf("%v tokens were refused", n)
	}
	poll(t, "the peer under its new id", func() bool { return len(w.peers()) == 1 && !maps.Equal(w.peers(), before) })
	w.call(w.admin, "POST", "/api/worktally/v1/users/me/token", "", http.StatusOK)
	poll(t, "an agent without peers", func() bool { return len(w.peers()) == 0 })
	if alive(c, 2*time.Second) == nil {
		t.Error("bytes still come back")
	}
}

// gather is the value of a family of the server's registry.
func (w *world) gather(name string) float64 {
	w.t.Helper()
	families, err := w.server.registry.Gather()
	must(w.t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	w.t.Fatalf("no %s", name)
	return 0
}

// TestClients_ServerRestart: what runs between a client and an agent does not need
// the server, and both find each other again.
func TestClients_ServerRestart(t *testing.T) {
	for _, block := range []bool{false, true} {
		w := newWorld(t, Options{Relays: Relays{BlockDirect: block}})
		w.agent.BlockDirect(block)
		p := w.dial(w.admin, "dev")
		c := p.stream()
		must(t, alive(c, patience))
		id := slices.Collect(maps.Keys(w.peers()))[0]
		w.stop()
		w.start()
		must(t, alive(c, patience))
		poll(t, "the same peer again", func() bool { return w.server.coordinator.Node(id) != nil })
		must(t, alive(c, patience))
	}
}

// TestClients_RightEnds: with the right to a workspace the way to it ends at once.
func TestClients_RightEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(w *world, bob string)
	}{
		{"the workspace is deleted", func(w *world, bob string) {
			ws, err := w.server.catalog.WorkspaceByName(w.t.Context(), "admin", "dev")
			must(w.t, err)
			w.call(w.admin, "DELETE", "/api/worktally/v1/workspaces/"+ws.ID.String(), "", http.StatusNoContent)
		}},
		{"the token is replaced", func(w *world, bob string) {
			w.call(bob, "POST", "/api/worktally/v1/users/me/token", "", http.StatusOK)
		}},
		{"the user is deleted", func(w *world, bob string) {
			w.call(w.admin, "DELETE", "/api/worktally/v1/users/bob", "", http.StatusNoContent)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, Options{})
			var bob struct{ Token string }
			must(t, json.Unmarshal([]byte(w.call(w.admin, "POST", "/api/worktally/v1/users", `{"username": "bob", "admin": true}`, http.StatusCreated)), &bob))
			p := w.dial(bob.Token, "admin/dev")
			stream := p.stream()
			must(t, alive(stream, patience))
			c.end(w, bob.Token)
			poll(t, "an agent without peers", func() bool { return len(w.peers()) == 0 })
			if err := alive(stream, 2*time.Second); err == nil {
				t.Error("bytes still come back")
			}
			if _, err := client.Dial(t.Context(), client.Options{Workspace: "admin/dev", WaitTimeout: 5 * time.Second, API: client.API{URL: w.url, Token: bob.Token}}); err == nil {
				t.Error("another connection was made")
			}
			http.DefaultClient.CloseIdleConnections()
		})
	}
}

// bare is a client that says what it wants to.
type bare struct {
	t      *testing.T
	conn   *wire.Client
	stream tailnetpb.DRPCTailnet_CoordinateClient
}

func (w *world) bare(token string) *bare {
	w.t.Helper()
	ws, _, err := websocket.Dial(w.t.Context(), w.url.String()+"/api/v2/workspaceagents/"+w.agentID.String()+"/coordinate?version=2.0", &websocket.DialOptions{
		HTTPHeader: http.Header{wire.TokenHeader: {token}},
	})
	must(w.t, err)
	b := &bare{t: w.t}
	b.conn, err = wire.NewClient(websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
	must(w.t, err)
	w.t.Cleanup(func() { _ = b.conn.Close(); http.DefaultClient.CloseIdleConnections() })
	b.stream, err = tailnetpb.NewDRPCTailnetClient(b.conn).Coordinate(context.Background())
	must(w.t, err)
	return b
}

func (b *bare) send(r *tailnetpb.CoordinateRequest) {
	b.t.Helper()
	must(b.t, b.stream.Send(r))
}

// until reads until an update of that kind or the end of the stream comes.
func (b *bare) until(kind tailnetpb.CoordinateResponse_PeerUpdate_Kind) (u *tailnetpb.CoordinateResponse_PeerUpdate, problem string, err error) {
	for {
		r, err := b.stream.Recv()
		if err != nil {
			return nil, problem, err
		}
		if r.GetError() != "" {
			problem = r.GetError()
		}
		for _, u := range r.GetPeerUpdates() {
			if u.GetKind() == kind {
				return u, problem, nil
			}
		}
	}
}

func tunnel(id uuid.UUID) *tailnetpb.CoordinateRequest {
	return &tailnetpb.CoordinateRequest{AddTunnel: &tailnetpb.CoordinateRequest_Tunnel{Id: id[:]}}
}

func updateSelf(n *tailnetpb.Node) *tailnetpb.CoordinateRequest {
	return &tailnetpb.CoordinateRequest{UpdateSelf: &tailnetpb.CoordinateRequest_UpdateSelf{Node: n}}
}

// TestClients_Exchange is the exchange of client-api.md section 6.1, with the real
// agent at the other end.
func TestClients_Exchange(t *testing.T) {
	w := newWorld(t, Options{})
	b := w.bare(w.admin)
	b.send(tunnel(w.agentID))
	u, _, err := b.until(tailnetpb.CoordinateResponse_PeerUpdate_NODE)
	must(t, err)
	if !bytes.Equal(u.GetId(), w.agentID[:]) || len(u.GetNode().GetAddresses()) != 2 || u.GetNode().GetPreferredDerp() != 999 {
		t.Errorf("the agent's node is %v", u)
	}
	// A node of a client that does not run is as good for the coordinator.
	node, err := tailnet.New(tailnet.Options{AccessURL: w.url})
	must(t, err)
	defer node.Close()
	must(t, node.SetRelayMap(w.server.relays()))
	var self *tailnetpb.Node
	poll(t, "a node", func() bool { self, _ = node.Self(); return self != nil })
	b.send(updateSelf(self))
	u, _, err = b.until(tailnetpb.CoordinateResponse_PeerUpdate_READY_FOR_HANDSHAKE)
	must(t, err)
	if !bytes.Equal(u.GetId(), w.agentID[:]) {
		t.Errorf("ready is %x", u.GetId())
	}
	b.send(&tailnetpb.CoordinateRequest{Disconnect: &tailnetpb.CoordinateRequest_Disconnect{}})
	if _, problem, err := b.until(-1); err != io.EOF || problem != "" {
		t.Errorf("after the goodbye: %q, %v", problem, err)
	}
	poll(t, "an agent without peers", func() bool { return len(w.peers()) == 0 })
}

// TestClients_LyingNodes: what a client may not say ends its stream, is counted,
// and reaches nobody.
func TestClients_LyingNodes(t *testing.T) {
	w := newWorld(t, Options{})
	agent := tailnet.Primary(w.agentID).String() + "/128"
	own := tailnet.RandomPrimary().String() + "/128"
	says := func(addresses, allowed []string) *tailnetpb.CoordinateRequest {
		return updateSelf(&tailnetpb.Node{Id: 1, PreferredDerp: 999, Addresses: addresses, AllowedIps: allowed})
	}
	for name, r := range map[string]*tailnetpb.CoordinateRequest{
		"the agent's address":   says([]string{agent}, []string{agent}),
		"two addresses":         says([]string{own, tailnet.RandomPrimary().String() + "/128"}, []string{own}),
		"a wide route":          says([]string{own}, []string{"::/0"}),
		"a tunnel elsewhere":    tunnel(uuid.New()),
		"ready for a handshake": {ReadyForHandshake: []*tailnetpb.CoordinateRequest_ReadyForHandshake{{Id: w.agentID[:]}}},
	} {
		b := w.bare(w.admin)
		b.send(tunnel(w.agentID))
		b.send(r)
		if _, problem, err := b.until(-1); err != io.EOF || !strings.HasPrefix(problem, "authorization: ") {
			t.Errorf("%s: %q, %v", name, problem, err)
		}
	}
	if len(w.peers()) != 0 {
		t.Errorf("the agent has peers: %v", w.peers())
	}
	if text := w.page(); !strings.Contains(text, `worktally_coordinator_rejected_total{reason="unauthorized"} 5`) {
		t.Error("the refusals are not on the page")
	}
}

// TestClients_Latencies: how far away the relay is from the agent is on the page.
func TestClients_Latencies(t *testing.T) {
	w := newWorld(t, Options{})
	w.server.publisher.AgentChanged()
	poll(t, "the latency", func() bool {
		return strings.Contains(w.page(), `coderd_agents_connection_latencies_seconds{agent_name="main",username="admin",workspace_name="dev",derp_region="Coder Embedded Relay",preferred="true"}`)
	})
}
