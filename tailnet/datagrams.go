package tailnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// HandleDatagrams serves UDP: choose returns who serves what a peer's port sends
// to one of the node's ports, or nil to drop it. It must not block. Set it once,
// before there are peers.
func (n *Node) HandleDatagrams(choose func(local, remote netip.AddrPort) Handler) {
	p := &n.stack.ports
	p.mu.Lock()
	p.datagrams = choose
	p.mu.Unlock()
}

// DialUDP returns a connection that exchanges datagrams with a peer's port. Nothing
// is sent.
func (n *Node) DialUDP(_ context.Context, to netip.AddrPort) (net.Conn, error) {
	local, remote := n.way(to)
	c, err := gonet.DialUDP(n.stack.ip, &local, &remote, ipv6.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("reach %s over the tailnet: %w", to, err)
	}
	t := &packetConn{UDPConn: c, ports: &n.stack.ports}
	if !t.ports.track(t, to.Addr()) {
		_ = c.Close()
		return nil, errClosed
	}
	return t, nil
}

// acceptDatagram is called with the first datagram of a pair of ports, by the
// goroutine that delivers packets. It says whether somebody takes it.
func (s *ipStack) acceptDatagram(r *udp.ForwarderRequest) bool {
	local, remote := ends(r.ID())
	s.ports.mu.Lock()
	choose := s.ports.datagrams
	s.ports.mu.Unlock()
	if choose == nil {
		return false
	}
	handle := choose(local, remote)
	if handle == nil {
		return false
	}
	var queue waiter.Queue
	ep, err := r.CreateEndpoint(&queue)
	if err != nil {
		return false
	}
	c := &packetConn{UDPConn: gonet.NewUDPConn(&queue, ep), ports: &s.ports}
	if !s.ports.track(c, remote.Addr()) {
		_ = c.UDPConn.Close()
		return false
	}
	s.n.peers.opened(remote.Addr(), local.Port())
	go handle(c) // it ends with the connection, which ends with the node at the latest
	return true
}

// packetConn is a UDP connection of the node.
type packetConn struct {
	*gonet.UDPConn
	ports *ports
}

// Close ends the connection.
func (c *packetConn) Close() error {
	c.ports.untrack(c)
	return c.UDPConn.Close()
}
