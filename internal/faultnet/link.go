package faultnet

import (
	"context"
	"net"
	"sync"
)

// link is one connection through the proxy.
type link struct {
	p        *Proxy
	in, out  net.Conn
	up, down *pipe // to the target, from it
	ctx      context.Context
	cancel   context.CancelFunc
	once     sync.Once
}

func newLink(p *Proxy, in, out net.Conn, n uint64, f Faults) *link {
	l := &link{p: p, in: in, out: out}
	l.ctx, l.cancel = context.WithCancel(p.ctx)
	l.up = newPipe(l, in, out, p.random(n, true))
	l.down = newPipe(l, out, in, p.random(n, false))
	l.up.delivered, l.down.taken, l.down.replies = &p.toTarget, &p.fromTarget, true
	if f.Break > 0 {
		l.up.left = 1 + l.up.rng.IntN(f.Break)
		l.down.left = 1 + l.down.rng.IntN(f.Break)
	}
	return l
}

// run forwards until both directions have ended.
func (l *link) run() {
	var wg sync.WaitGroup
	for _, d := range []*pipe{l.up, l.down} {
		wg.Go(d.read)
		wg.Go(d.write)
	}
	wg.Wait()
	l.cancel()
	_ = l.in.Close()
	_ = l.out.Close()
}

// reset breaks both sides without an orderly end.
func (l *link) reset() {
	l.once.Do(func() {
		l.p.broken.Add(1)
		l.cancel()
		for _, c := range []net.Conn{l.in, l.out} {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = c.Close()
		}
	})
}
