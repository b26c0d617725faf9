package e2e

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// cutter is a network between an agent and its server that breaks on demand.
type cutter struct {
	listener net.Listener
	target   atomic.Pointer[string]
	// swallow: answers of the server are lost. What was lost cannot come back, so
	// that a cut must follow.
	swallow atomic.Bool
	wg      sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

func newCutter(t *testing.T, target string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: l, conns: make(map[net.Conn]struct{})}
	c.target.Store(&target)
	c.wg.Go(c.accept)
	t.Cleanup(func() {
		_ = l.Close()
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		c.cut()
		c.wg.Wait()
	})
	return c
}

func (c *cutter) url() string { return "http://" + c.listener.Addr().String() }

// lead cuts all connections; new ones go elsewhere.
func (c *cutter) lead(target string) {
	c.target.Store(&target)
	c.cut()
}

func (c *cutter) accept() {
	for {
		in, err := c.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", *c.target.Load())
		if err != nil {
			_ = in.Close()
			continue
		}
		if !c.keep(in, out) {
			continue
		}
		c.wg.Go(func() { c.copy(out, in, false) })
		c.wg.Go(func() { c.copy(in, out, true) })
	}
}

// keep enters connections; after the end it closes them.
func (c *cutter) keep(conns ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		if c.closed {
			_ = conn.Close()
			continue
		}
		c.conns[conn] = struct{}{}
	}
	return !c.closed
}

func (c *cutter) copy(dst, src net.Conn, answers bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 && !(answers && c.swallow.Load()) {
			if _, err := dst.Write(buf[:n]); err != nil {
				break
			}
		}
		if err == io.EOF {
			_ = dst.(*net.TCPConn).CloseWrite()
			return
		}
		if err != nil {
			break
		}
	}
	c.drop(dst, src)
}

// cut breaks all connections and heals the network.
func (c *cutter) cut() {
	c.mu.Lock()
	conns := make([]net.Conn, 0, len(c.conns))
	for conn := range c.conns {
		conns = append(conns, conn)
	}
	c.mu.Unlock()
	c.drop(conns...)
	c.swallow.Store(false)
}

func (c *cutter) drop(conns ...net.Conn) {
	for _, conn := range conns {
		_ = conn.(*net.TCPConn).SetLinger(0) // as a network that is gone: no orderly end
		_ = conn.Close()
		c.mu.Lock()
		delete(c.conns, conn)
		c.mu.Unlock()
	}
}
