package webserve

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// cuts counts what OnCut was told.
type cuts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *cuts) add(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[string]int)
	}
	c.n[reason]++
}

func (c *cuts) of(reason string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[reason]
}

// served runs a server until the end of the test.
func served(t *testing.T, o Options) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, o) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func dialed(t *testing.T, addr, sent string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(nc, sent); err != nil {
		t.Fatal(err)
	}
	return nc
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

const halfUpgrade = "GET /rpc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "

// TestServe_HalfOpenConnectionsAreBounded has silent connections and half-open
// websockets, more than there may be: the oldest go, and whoever asks is answered.
func TestServe_HalfOpenConnectionsAreBounded(t *testing.T) {
	const limit, hostile = 20, 300
	var c cuts
	asked := make(chan struct{})
	release := make(chan struct{})
	addr := served(t, Options{Bound: Bounded(limit, c.add), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			close(asked)
			<-release
		}
		_, _ = io.WriteString(w, "answer")
	})})
	long := dialed(t, addr, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked
	conns := make([]net.Conn, hostile)
	for i := range conns {
		conns[i] = dialed(t, addr, halfUpgrade[:i%2*len(halfUpgrade)])
	}
	until(t, "the oldest gone", func() bool { return c.of(CutFull) == hostile-limit })
	resp, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if n, err := io.Copy(io.Discard, conns[0]); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the oldest: %d bytes, %v", n, err)
	}
	// A request that is being served is none of them.
	close(release)
	b := make([]byte, 12)
	if _, err := io.ReadFull(long, b); err != nil || string(b) != "HTTP/1.1 200" {
		t.Errorf("the long request: %q, %v", b, err)
	}
	for _, nc := range conns[hostile-limit+5:] {
		nc.Close()
	}
	until(t, "the rest counted", func() bool { return c.of(CutNoRequest) >= limit-5 })
}

// TestServe_SlowHeadersAreCut takes as long as the bound says.
func TestServe_SlowHeadersAreCut(t *testing.T) {
	t.Parallel()
	var c cuts
	addr := served(t, Options{Bound: Bounded(0, c.add), Handler: http.NotFoundHandler()})
	begin := time.Now()
	nc := dialed(t, addr, halfUpgrade)
	_, _ = io.Copy(io.Discard, nc) // the end is all that matters
	if took := time.Since(begin); took < readHeaderTimeout-time.Second || took > readHeaderTimeout+8*time.Second {
		t.Errorf("cut after %v", took)
	}
	until(t, "one counted", func() bool { return c.of(CutNoRequest) == 1 })
}

func TestServe_LongHeadersAreRefused(t *testing.T) {
	addr := served(t, Options{Handler: http.NotFoundHandler()})
	nc := dialed(t, addr, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("a", maxHeaderBytes+8<<10)+"\r\n\r\n")
	b := make([]byte, 12)
	if _, err := io.ReadFull(nc, b); err != nil || string(b) != "HTTP/1.1 431" {
		t.Errorf("answer %q, %v", b, err)
	}
}

// failing has no descriptor left for a while.
type failing struct {
	net.Listener
	mu   sync.Mutex
	left int
}

type shortage struct{ error }

func (shortage) Error() string   { return "too many open files" }
func (shortage) Temporary() bool { return true }
func (shortage) Timeout() bool   { return false }

func (l *failing) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left > 0 {
		l.left--
		return nil, shortage{}
	}
	return l.Listener.Accept()
}

// TestServe_OutOfDescriptors: a shortage is waited out and counted.
func TestServe_OutOfDescriptors(t *testing.T) {
	var c cuts
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, &failing{Listener: l, left: 3}, Options{Bound: Bounded(0, c.add), Handler: http.NotFoundHandler()})
	}()
	resp, err := http.Get("http://" + l.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if c.of(CutNotAccepted) != 3 {
		t.Errorf("%d counted, want 3", c.of(CutNotAccepted))
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
