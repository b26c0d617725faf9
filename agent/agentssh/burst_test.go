package agentssh

import (
	"net"
	"testing"

	"github.com/worktally/worktally/agent/agentexec"
)

// TestServer_BurstOfSilentConnections: connections that are accepted faster than
// those that had to go for them end do not fill the places of all. Under load
// TestHostile_HalfOpen found some of them refused.
func TestServer_BurstOfSilentConnections(t *testing.T) {
	const limit, silent = 4, 100
	w := newWorld(t, func(o *Options, _ *agentexec.Options) { o.MaxHandshakes, o.MaxConns = limit, 10 })
	release := make(chan struct{})
	for range silent {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close() })
		w.server.HandleTrusted(slowToEnd{far, release})
	}
	if n := w.total("agent_dropped_total", "what", "ssh_connections"); n != 0 {
		t.Errorf("%v connections were refused", n)
	}
	if n := w.total("agent_dropped_total", "what", "ssh_handshakes"); n != silent-limit {
		t.Errorf("%v had to go, want %d", n, silent-limit)
	}
	close(release)
	eventually(t, "the others ended", func() bool { return w.failedHandshakes() == silent-limit })
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	if w.server.conns != limit {
		t.Errorf("%d connections hold a place, want %d", w.server.conns, limit)
	}
}

// slowToEnd answers no read before it is let go on.
type slowToEnd struct {
	net.Conn
	release chan struct{}
}

func (c slowToEnd) Read(p []byte) (int, error) {
	<-c.release
	return c.Conn.Read(p)
}
