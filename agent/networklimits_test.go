package agent

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/worktally/worktally/agent/agentnet"
	"github.com/worktally/worktally/agent/stats"
)

func newTestNetwork() *network {
	n := &network{a: &Agent{tally: stats.New(stats.Options{}), log: slog.New(slog.DiscardHandler)}}
	n.life, n.end = context.WithCancel(context.Background())
	return n
}

// TestNetwork_DatagramForwardsAreBounded: the one beyond what there may be is
// closed and counted, the others go on.
func TestNetwork_DatagramForwardsAreBounded(t *testing.T) {
	n := newTestNetwork()
	n.isBounded(t, n.datagramHandler()(netip.MustParseAddrPort("127.0.0.1:9"), netip.AddrPort{}), maxDatagramForwards)
}

// TestNetwork_SpeedtestsAreBounded: so are they, before their hello.
func TestNetwork_SpeedtestsAreBounded(t *testing.T) {
	n := newTestNetwork()
	n.isBounded(t, n.handlers(&serving{})(netip.AddrPortFrom(netip.IPv6Loopback(), agentnet.PortSpeedtest), netip.AddrPort{}), maxSpeedtests)
}

// TestNetwork_PortForwardsAreBounded, those to all ports together.
func TestNetwork_PortForwardsAreBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		var kept []net.Conn // what nobody holds is closed by the garbage collector
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			kept = append(kept, c)
		}
		for _, c := range kept {
			_ = c.Close()
		}
	})
	defer accepting.Wait()
	defer l.Close()
	n := newTestNetwork()
	choose, port := n.handlers(&serving{}), l.Addr().(*net.TCPAddr).Port
	n.isBounded(t, choose(netip.AddrPortFrom(netip.IPv6Loopback(), uint16(port)), netip.AddrPort{}), maxPortForwards)
	// They have given their places back.
	ours, theirs := net.Pipe()
	n.life, n.end = context.WithCancel(context.Background())
	go choose(netip.AddrPortFrom(netip.IPv6Loopback(), uint16(port)), netip.AddrPort{})(ours)
	if _, err := theirs.Write([]byte("x")); err != nil {
		t.Errorf("one more: %v", err)
	}
	theirs.Close()
	n.end()
	n.wg.Wait()
}

// isBounded serves one more connection than there may be, and ends them all.
func (n *network) isBounded(t *testing.T, handle func(net.Conn), limit int) {
	t.Helper()
	closed := make(chan struct{}, limit+1)
	for range limit + 1 {
		ours, theirs := net.Pipe()
		go handle(ours)
		go func() {
			defer theirs.Close()
			_, _ = theirs.Read(make([]byte, 1)) // nothing comes but the end
			closed <- struct{}{}
		}()
	}
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("none was closed")
	}
	if got := droppedForwards(n.a.tally); got != 1 || len(closed) != 0 {
		t.Errorf("%v counted, %d more closed", got, len(closed))
	}
	n.end()
	n.wg.Wait()
	for range limit {
		<-closed
	}
}

// TestNetwork_APIConnectionsAreBounded: what is open beyond the limit is closed and
// counted; there is room again when others are gone.
func TestNetwork_APIConnectionsAreBounded(t *testing.T) {
	const limit = 3
	n := newTestNetwork()
	api := httptest.NewUnstartedServer(http.NotFoundHandler())
	api.Config.ConnState = n.boundAPI(limit)
	api.Start()
	defer api.Close()
	answered := func() bool {
		c, err := net.Dial("tcp", api.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err = c.Read(make([]byte, 1))
		return err == nil
	}
	for i := range limit {
		if !answered() {
			t.Errorf("connection %d is not served", i)
		}
	}
	if answered() || droppedForwards(n.a.tally) != 1 {
		t.Errorf("one too many is served, or %v are counted", droppedForwards(n.a.tally))
	}
	api.CloseClientConnections()
	for deadline := time.Now().Add(20 * time.Second); !answered(); {
		if time.Now().After(deadline) {
			t.Fatal("there is no room again")
		}
	}
}

func droppedForwards(t *stats.Tally) float64 {
	for _, total := range t.Snapshot().Totals {
		if total.Name == "agent_dropped_total" && total.Labels[0].Value == string(stats.DropForwards) {
			return total.Value
		}
	}
	return -1
}
