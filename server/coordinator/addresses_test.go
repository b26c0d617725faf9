package coordinator

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire/tailnetpb"
)

// The agents of these tests, with the address of the first, and two persons.
const (
	agentAddress  = "fd7a:115c:a1e0:3333:4444:5555:5555:5555/128"
	clientAddress = "fd7a:115c:a1e0:1::1/128"
)

func theAgent() uuid.UUID   { return uuid.MustParse("11111111-2222-3333-4444-555555555555") }
func otherAgent() uuid.UUID { return uuid.MustParse("a1111111-2222-3333-4444-666666666666") }
func ann() uuid.UUID        { return uuid.MustParse("aaaaaaaa-0000-4000-8000-000000000001") }
func bob() uuid.UUID        { return uuid.MustParse("bbbbbbbb-0000-4000-8000-000000000001") }

// holding announces a node with a number, which is also its key, and one address.
func holding(id int64, address string) *tailnetpb.CoordinateRequest {
	r := announce([]string{address}, []string{address})
	r.UpdateSelf.Node.Id, r.UpdateSelf.Node.Key = id, []byte{byte(id)}
	return r
}

// wantEnded waits until the server has ended the session, and compares why.
func (e *end) wantEnded(want error) {
	e.t.Helper()
	select {
	case err := <-e.ended:
		if !errors.Is(err, want) {
			e.t.Errorf("the session of %s ended: %v, want %v", short(e.id[:]), err, want)
		}
	case <-time.After(time.Minute):
		e.t.Fatalf("the session of %s goes on", short(e.id[:]))
	}
}

// client announces an address and asks for a tunnel to the agent.
func client(t *testing.T, c *Coordinator, name byte, user uuid.UUID, node int64, address string) *end {
	t.Helper()
	p := join(t, c, named(name), ClientAuth{AgentID: theAgent(), UserID: user})
	r := holding(node, address)
	r.AddTunnel = add(theAgent()).AddTunnel
	p.send(r) // one request, for the server may be done with the client after it
	return p
}

func TestAddresses(t *testing.T) {
	const taken = "error: authorization: address fd7a:115c:a1e0:1::1 is another peer's"
	for _, c := range []struct {
		name string
		run  func(t *testing.T, c *Coordinator, agent *end)
	}{
		{"another person's client does not get it", func(t *testing.T, c *Coordinator, agent *end) {
			_ = client(t, c, 0xc1, ann(), 7, clientAddress)
			agent.want(`c1 NODE "add tunnel" node 7`)
			client(t, c, 0xc2, bob(), 7, clientAddress).want(taken, "closed")
			agent.quiet()
		}},
		{"nor does one with another key", func(t *testing.T, c *Coordinator, agent *end) {
			_ = client(t, c, 0xc1, ann(), 7, clientAddress)
			agent.want(`c1 NODE "add tunnel" node 7`)
			client(t, c, 0xc2, ann(), 8, clientAddress).want(taken, "closed")
			agent.quiet()
		}},
		{"the same client comes back before its end was noticed", func(t *testing.T, c *Coordinator, agent *end) {
			former := client(t, c, 0xc1, ann(), 7, clientAddress)
			agent.want(`c1 NODE "add tunnel" node 7`)
			again := client(t, c, 0xc2, ann(), 7, clientAddress)
			agent.want(`c1 LOST "lost"`, `c2 NODE "add tunnel" node 7`)
			former.wantEnded(errReplaced)
			again.send(holding(7, clientAddress)) // it is its own now
			again.send(disconnect())
			again.want(`11 NODE "add tunnel" node 1`, "closed")
			agent.want(`c2 DISCONNECTED "graceful disconnect"`)
		}},
		{"the same peer comes back with its token", func(t *testing.T, c *Coordinator, agent *end) {
			former := client(t, c, 0xc1, ann(), 7, clientAddress)
			agent.want(`c1 NODE "add tunnel" node 7`)
			again := join(t, c, former.id, ClientAuth{AgentID: theAgent(), UserID: ann()})
			again.send(holding(8, clientAddress))
			agent.want(`c1 NODE "node update" node 8`)
		}},
		{"who left has none", func(t *testing.T, c *Coordinator, agent *end) {
			first := client(t, c, 0xc1, ann(), 7, clientAddress)
			first.send(disconnect())
			first.want(`11 NODE "add tunnel" node 1`, "closed")
			_ = client(t, c, 0xc2, bob(), 8, clientAddress)
			agent.want(`c1 NODE "add tunnel" node 7`, `c1 DISCONNECTED "graceful disconnect"`, `c2 NODE "add tunnel" node 8`)
		}},
		{"who has another gives the first up", func(t *testing.T, c *Coordinator, agent *end) {
			first := client(t, c, 0xc1, ann(), 7, clientAddress)
			agent.want(`c1 NODE "add tunnel" node 7`)
			first.send(holding(7, "fd7a:115c:a1e0:1::2/128"))
			agent.want(`c1 NODE "node update" node 7`)
			_ = client(t, c, 0xc2, bob(), 8, clientAddress)
			agent.want(`c2 NODE "add tunnel" node 8`)
		}},
		{"that of an agent that is there", func(t *testing.T, c *Coordinator, agent *end) {
			far := join(t, c, otherAgent(), AgentAuth{otherAgent()})
			const address = "fd7a:115c:a1e0:3333:4444:6666:6666:6666"
			far.send(holding(9, address+"/128"))
			poll(t, "the other agent's node", func() bool { return c.Node(far.id) != nil })
			client(t, c, 0xc1, ann(), 7, address+"/128").want("error: authorization: address "+address+" is another peer's", "closed")
			agent.quiet()
		}},
		{"that of an agent that comes later", func(t *testing.T, c *Coordinator, agent *end) {
			const address = "fd7a:115c:a1e0:3333:4444:6666:6666:6666/128"
			liar := client(t, c, 0xc1, ann(), 7, address)
			agent.want(`c1 NODE "add tunnel" node 7`)
			far := join(t, c, otherAgent(), AgentAuth{otherAgent()})
			far.send(holding(9, address))
			agent.want(`c1 LOST "lost"`)
			liar.wantEnded(errNotItsOwn)
			poll(t, "the other agent's node", func() bool { return c.Node(far.id) != nil })
			if n := c.c.get(reasonUnauthorized); n != 1 {
				t.Errorf("counted %d", n)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			coord := newCoordinator(t)
			agent := join(t, coord, theAgent(), AgentAuth{theAgent()})
			agent.send(holding(1, agentAddress))
			poll(t, "the agent's node", func() bool { return coord.Node(agent.id) != nil })
			c.run(t, coord, agent)
		})
	}
}

// TestAddresses_NothingStays: who is gone holds nothing.
func TestAddresses_NothingStays(t *testing.T) {
	c := newCoordinator(t)
	p := client(t, c, 0xc1, ann(), 7, clientAddress)
	poll(t, "the node", func() bool { return c.Node(p.id) != nil })
	_ = p.client.Close()
	poll(t, "no addresses", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.holders) == 0 && len(c.peers) == 0
	})
}

func TestEnd(t *testing.T) {
	t.Parallel()
	c := newCoordinator(t)
	c.grace = 3 * time.Second // a machine that is busy tells the peers in time
	client, agent := pair(t, c)
	c.End(named(0xff), client.id) // the first is nobody
	client.want(`a1 DISCONNECTED "no longer allowed"`, "closed")
	agent.want(`c1 DISCONNECTED "no longer allowed"`)
	client.wantEnded(errEnded) // although it did not react
	agent.quiet()
	if !c.noTunnels() {
		t.Error("the tunnel is still there")
	}
	again := join(t, c, named(0xc1), anyone{})
	again.send(self(2))
	again.send(add(agent.id))
	again.want(`a1 NODE "add tunnel" node 1`)
	agent.want(`c1 NODE "add tunnel" node 2`)
	c.End(agent.id, again.id)
	again.want(`a1 DISCONNECTED "no longer allowed"`, "closed")
	agent.want(`c1 DISCONNECTED "no longer allowed"`, "closed")
	agent.wantEnded(errEnded)
	again.wantEnded(errEnded)
}

// TestEnd_HangsUpAtOnce: a peer that hangs up on reading its last words has not left
// of its own accord: why its session ended is known before.
func TestEnd_HangsUpAtOnce(t *testing.T) {
	c := newCoordinator(t)
	client, agent := pair(t, c)
	c.mu.Lock()
	c.partLocked(c.peers[agent.id]) // as End does; what follows there comes too late
	c.mu.Unlock()
	agent.want(`c1 DISCONNECTED "no longer allowed"`, "closed")
	_ = agent.client.Close()
	agent.wantEnded(errEnded)
	client.want(`a1 DISCONNECTED "no longer allowed"`)
}

// TestEnd_WhoDoesNotRead: a peer that does not read its last words delays nobody
// for long.
func TestEnd_WhoDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{})
		deaf, cancelled := context.WithCancelCause(context.Background())
		p, _ := c.join(uuid.New(), anyone{}, cancelled)
		began := time.Now()
		c.End(p.id)
		if !errors.Is(context.Cause(deaf), errEnded) || time.Since(began) != endGrace {
			t.Errorf("ended by %v after %s", context.Cause(deaf), time.Since(began))
		}
	})
}
