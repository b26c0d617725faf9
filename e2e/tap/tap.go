// Package tap is a proxy for tests and the demo that counts the payload passing
// through it, so that what an agent counted can be compared with what really
// went over the connection.
package tap

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// Proxy forwards connections from its listener to a target.
type Proxy struct {
	listener net.Listener
	network  string
	target   string
	// toTarget and fromTarget are bytes delivered.
	toTarget, fromTarget atomic.Uint64
	wg                   sync.WaitGroup
}

// Listen starts a proxy on listener. The target is dialled for each connection.
func Listen(listener net.Listener, network, target string) *Proxy {
	p := &Proxy{listener: listener, network: network, target: target}
	p.wg.Go(p.accept)
	return p
}

// Counts returns the bytes that were delivered to the target and from it.
func (p *Proxy) Counts() (toTarget, fromTarget uint64) { return p.toTarget.Load(), p.fromTarget.Load() }

// Addr is where the proxy listens.
func (p *Proxy) Addr() net.Addr { return p.listener.Addr() }

// Close stops accepting and waits for the open connections to end.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.forward(in) })
	}
}

func (p *Proxy) forward(in net.Conn) {
	defer in.Close()
	out, err := net.Dial(p.network, p.target)
	if err != nil {
		return
	}
	defer out.Close()
	var both sync.WaitGroup
	both.Go(func() { pipe(out, in, &p.toTarget) })
	both.Go(func() { pipe(in, out, &p.fromTarget) })
	both.Wait()
}

// pipe copies one direction and passes its end on.
func pipe(dst, src net.Conn, count *atomic.Uint64) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			written, writeErr := dst.Write(buf[:n])
			count.Add(uint64(written))
			err = errors.Join(err, writeErr)
		}
		if err != nil {
			if h, ok := dst.(interface{ CloseWrite() error }); ok && errors.Is(err, io.EOF) {
				_ = h.CloseWrite()
			} else {
				_ = dst.Close()
			}
			return
		}
	}
}
