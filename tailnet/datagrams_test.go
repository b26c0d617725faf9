package tailnet

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestNode_Datagrams: a datagram arrives as one, its answer comes back, and a port
// that nobody serves stays silent. Who opens a port but the control port is a
// person.
func TestNode_Datagrams(t *testing.T) {
	u := startRelay(t)
	agentID, clientID := uuid.New(), uuid.New()
	agent, client := startNode(t, u, agentID, nil), startNode(t, u, uuid.Nil, nil)
	agent.o.ControlPort = 4 // nothing runs yet
	agent.HandleDatagrams(func(local, _ netip.AddrPort) Handler {
		if local.Port() != 53 && local.Port() != 4 {
			return nil
		}
		return func(c net.Conn) {
			defer c.Close()
			buf := make([]byte, 1<<16)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				_, _ = c.Write(append([]byte("heard "), buf[:n]...))
			}
		}
	})
	if err := agent.Upsert(clientID, awaitSelf(t, client)); err != nil {
		t.Fatal(err)
	}
	if err := client.Upsert(agentID, awaitSelf(t, agent)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := client.Reach(ctx, Primary(agentID)); err != nil {
		t.Fatal(err)
	}
	try := func(port uint16, text string) (string, error) {
		c, err := client.DialUDP(ctx, netip.AddrPortFrom(Primary(agentID), port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<16)
		n, err := c.Read(buf)
		return string(buf[:n]), err
	}
	// A datagram may be lost, or late on a machine that stands still.
	ask := func(port uint16, text string) (got string, err error) {
		for range 5 {
			if got, err = try(port, text); err == nil {
				break
			}
		}
		return got, err
	}
	person := func() bool { return agent.Peers()[0].Person() }
	if got, err := ask(4, "one"); err != nil || got != "heard one" || person() {
		t.Errorf("control port: %q, %v, person %t", got, err, person())
	}
	if got, err := ask(53, "two"); err != nil || got != "heard two" || !person() {
		t.Errorf("port 53: %q, %v, person %t", got, err, person())
	}
	for _, size := range []int{1232, 1233, 5000, 20_000} { // more than fits into a packet
		text := strings.Repeat("x", size-1) + "y"
		if got, err := ask(53, text); err != nil || got != "heard "+text {
			t.Errorf("%d bytes: %d came back, %v", size, len(got), err)
		}
	}
	if got, err := try(99, "three"); err == nil {
		t.Errorf("nobody answered %q", got)
	}
	agent.Remove(clientID)
	agent.stack.ports.mu.Lock()
	open := len(agent.stack.ports.open)
	agent.stack.ports.mu.Unlock()
	if open != 0 {
		t.Errorf("%d connections outlive their peer", open)
	}
	late, err := client.DialUDP(ctx, netip.AddrPortFrom(Primary(agentID), 53))
	if err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
	if _, err := late.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlives its node")
	}
	if _, err := client.DialUDP(ctx, netip.AddrPortFrom(Primary(agentID), 53)); err == nil {
		t.Error("a closed node dials")
	}
}
