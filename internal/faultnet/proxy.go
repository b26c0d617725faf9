package faultnet

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
)

// Proxy forwards connections from its listener to a target.
type Proxy struct {
	listener net.Listener
	network  string
	seed     uint64
	// toTarget and fromTarget are bytes, made and broken connections.
	toTarget, fromTarget, made, broken atomic.Uint64

	ctx  context.Context // ends with the proxy
	stop context.CancelFunc
	wg   sync.WaitGroup

	// mu guards what follows.
	mu      sync.Mutex
	target  string
	faults  Faults
	changed chan struct{} // closed when faults change
	links   map[*link]struct{}
}

// Listen starts a proxy on a listener, which it owns then. The target, an address
// of the network ("tcp", "unix"), is dialled for each connection.
func Listen(listener net.Listener, network, target string, seed uint64) *Proxy {
	ctx, stop := context.WithCancel(context.Background())
	p := &Proxy{
		listener: listener, network: network, seed: seed, ctx: ctx, stop: stop,
		target: target, changed: make(chan struct{}), links: make(map[*link]struct{}),
	}
	p.wg.Go(p.accept)
	return p
}

// ListenLoopback starts a proxy on a free TCP port of this machine.
func ListenLoopback(network, target string, seed uint64) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return Listen(l, network, target, seed), nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() net.Addr { return p.listener.Addr() }

// URL is the proxy as an http server.
func (p *Proxy) URL() string { return "http://" + p.Addr().String() }

// Counts returns the bytes that were delivered to the target, and those that it
// sent, whether they were delivered or not.
func (p *Proxy) Counts() (toTarget, fromTarget uint64) { return p.toTarget.Load(), p.fromTarget.Load() }

// Connections returns how many connections were made, and how many of them were
// reset, by order or because one side was.
func (p *Proxy) Connections() (made, broken uint64) { return p.made.Load(), p.broken.Load() }

// Set changes what is wrong, for open connections too.
func (p *Proxy) Set(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
	close(p.changed)
	p.changed = make(chan struct{})
}

// state returns what is wrong and a channel that is closed when that changes.
func (p *Proxy) state() (Faults, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults, p.changed
}

// Cut resets all connections, as a network that is gone, and then heals it.
func (p *Proxy) Cut() {
	for _, l := range p.open() {
		l.reset()
	}
	p.Set(Faults{})
}

// Lead cuts all connections; new ones go elsewhere.
func (p *Proxy) Lead(target string) {
	p.mu.Lock()
	p.target = target
	p.mu.Unlock()
	p.Cut()
}

// HalfClose ends one direction of all connections; the other one works on.
func (p *Proxy) HalfClose(toTarget bool) {
	for _, l := range p.open() {
		if toTarget {
			l.up.end()
		} else {
			l.down.end()
		}
	}
}

func (p *Proxy) open() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	return links
}

// Close stops accepting and resets the open connections.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.stop()
	p.Cut()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		n := p.made.Add(1)
		p.wg.Go(func() { p.serve(in, n) })
	}
}

// serve forwards one connection until it ends.
func (p *Proxy) serve(in net.Conn, n uint64) {
	p.mu.Lock()
	target, faults := p.target, p.faults
	p.mu.Unlock()
	var d net.Dialer
	out, err := d.DialContext(p.ctx, p.network, target)
	if err != nil {
		_ = in.Close()
		return
	}
	l := newLink(p, in, out, n, faults)
	if p.enter(l) {
		l.run()
	} else {
		l.reset()
	}
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// enter refuses links after the end.
func (p *Proxy) enter(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() == nil {
		p.links[l] = struct{}{}
	}
	return p.ctx.Err() == nil
}

// random is the generator of one direction of one connection.
func (p *Proxy) random(n uint64, up bool) *rand.Rand {
	stream := 2 * n
	if up {
		stream++
	}
	return rand.New(rand.NewPCG(p.seed, stream))
}
