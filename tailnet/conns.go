package tailnet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// maxHalfOpen bounds the TCP handshakes in flight.
	maxHalfOpen = 1024
	// acceptBacklog bounds the connections that wait for Accept; more are reset.
	acceptBacklog = 64
)

// Handler serves a connection to a port that nobody listens on and closes it.
// Returning nil from the function that chose it refuses the connection. A
// connection of UDP delivers one datagram for each Read and sends one for each
// Write.
type Handler func(net.Conn)

// ports are the listeners of a node.
type ports struct {
	mu        sync.Mutex
	listeners map[uint16]*listener
	fallback  chooser
	datagrams chooser
	// open are the connections by peer.
	open   map[io.Closer]netip.Addr
	closed bool
}

// chooser returns who serves a connection, nil for nobody.
type chooser func(local, remote netip.AddrPort) Handler

// Listen accepts connections to a port of all the node's addresses.
func (n *Node) Listen(port uint16) (net.Listener, error) {
	p := &n.stack.ports
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	if _, taken := p.listeners[port]; taken {
		return nil, fmt.Errorf("tailnet: port %d is in use", port)
	}
	l := &listener{ports: p, port: port, addr: netip.AddrPortFrom(n.Addr(), port), conns: make(chan net.Conn, acceptBacklog), done: make(chan struct{})}
	p.listeners[port] = l
	return l, nil
}

// HandleOther serves connections to ports that nobody listens on: choose returns
// the handler, or nil to refuse. Set it once, before there are peers.
func (n *Node) HandleOther(choose func(local, remote netip.AddrPort) Handler) {
	p := &n.stack.ports
	p.mu.Lock()
	p.fallback = choose
	p.mu.Unlock()
}

// way returns both ends of a connection to a peer from the node's first address.
func (n *Node) way(to netip.AddrPort) (local, remote tcpip.FullAddress) {
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom16(n.Addr().As16())},
		tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom16(to.Addr().As16()), Port: to.Port()}
}

// DialTCP connects to a peer from the node's first address.
func (n *Node) DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	local, remote := n.way(to)
	c, err := gonet.DialTCPWithBind(ctx, n.stack.ip, local, remote, ipv6.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("dial %s over the tailnet: %w", to, err)
	}
	t := &conn{TCPConn: c, ports: &n.stack.ports}
	if !t.ports.track(t, to.Addr()) {
		_ = c.Close()
		return nil, errClosed
	}
	return t, nil
}

// installForwarder decides about every connection that peers open.
func (s *ipStack) installForwarder() {
	s.ports.listeners, s.ports.open = make(map[uint16]*listener), make(map[io.Closer]netip.Addr)
	f := tcp.NewForwarder(s.ip, 0, maxHalfOpen, s.accept)
	s.ip.SetTransportProtocolHandler(tcp.ProtocolNumber, f.HandlePacket)
	u := udp.NewForwarder(s.ip, s.acceptDatagram)
	s.ip.SetTransportProtocolHandler(udp.ProtocolNumber, u.HandlePacket)
}

// accept runs in a goroutine of its own for each SYN.
func (s *ipStack) accept(r *tcp.ForwarderRequest) {
	local, remote := ends(r.ID())
	s.ports.mu.Lock()
	l, fallback := s.ports.listeners[local.Port()], s.ports.fallback
	s.ports.mu.Unlock()
	var handle Handler
	switch {
	case l != nil:
		handle = l.deliver
	case fallback != nil:
		handle = fallback(local, remote)
	}
	if handle == nil {
		r.Complete(true) // a reset says that nobody is there
		return
	}
	var queue waiter.Queue
	ep, err := r.CreateEndpoint(&queue)
	if err != nil {
		r.Complete(true)
		return
	}
	r.Complete(false)
	ep.SocketOptions().SetKeepAlive(true)
	c := &conn{TCPConn: gonet.NewTCPConn(&queue, ep), ports: &s.ports}
	if !s.ports.track(c, remote.Addr()) {
		_ = c.TCPConn.Close()
		return
	}
	s.n.peers.opened(remote.Addr(), local.Port())
	handle(c)
}

// ends returns both sides of a connection.
func ends(id stack.TransportEndpointID) (local, remote netip.AddrPort) {
	return netip.AddrPortFrom(addrOf(id.LocalAddress), id.LocalPort), netip.AddrPortFrom(addrOf(id.RemoteAddress), id.RemotePort)
}

func addrOf(a tcpip.Address) netip.Addr {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return addr
}

// track remembers a connection, so that it ends with its peer, and says whether
// there still is a node for it.
func (p *ports) track(c io.Closer, remote netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.open[c] = remote
	}
	return !p.closed
}

func (p *ports) untrack(c io.Closer) {
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
}

// dropPeer ends the connections with the addresses of a peer that is gone:
// otherwise the stack would send into nothing for minutes.
func (p *ports) dropPeer(gone func(netip.Addr) bool) {
	p.mu.Lock()
	var ended []io.Closer
	for c, peer := range p.open {
		if gone(peer) {
			ended = append(ended, c)
		}
	}
	p.mu.Unlock()
	for _, c := range ended {
		_ = c.Close()
	}
}

func (p *ports) close() {
	p.mu.Lock()
	p.closed = true
	listeners := p.listeners
	p.listeners = make(map[uint16]*listener)
	p.mu.Unlock()
	for _, l := range listeners {
		l.end()
	}
	p.dropPeer(func(netip.Addr) bool { return true })
}

// conn is a TCP connection of the node.
type conn struct {
	*gonet.TCPConn
	ports *ports
}

// Close ends the connection.
func (c *conn) Close() error {
	c.ports.untrack(c)
	return c.TCPConn.Close()
}

// listener is a port of the node.
type listener struct {
	ports *ports
	port  uint16
	addr  netip.AddrPort
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

// deliver hands a connection to Accept, or resets it if nobody accepts.
func (l *listener) deliver(c net.Conn) {
	select {
	case <-l.done:
		_ = c.Close()
		return
	default:
	}
	select {
	case l.conns <- c:
	case <-l.done:
		_ = c.Close()
	default:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.ports.mu.Lock()
	if l.ports.listeners[l.port] == l {
		delete(l.ports.listeners, l.port)
	}
	l.ports.mu.Unlock()
	l.end()
	return nil
}

func (l *listener) end() {
	l.once.Do(func() { close(l.done) })
	for {
		select {
		case c := <-l.conns:
			_ = c.Close()
		default:
			return
		}
	}
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }
