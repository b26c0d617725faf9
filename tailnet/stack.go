package tailnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"tailscale.com/net/packet"
	"tailscale.com/net/tstun"
	"tailscale.com/types/ipproto"
	"tailscale.com/wgengine/filter"
	"tailscale.com/wgengine/netstack/gro"
)

const nic = 1

// The bounds of memory. A window of 1 MiB allows 160 Mbit/s over 50 ms. What peers
// send waits in buffers of 64 KiB a packet until it is decrypted, so that twice the
// window would fill the memory limit and keep the garbage collector busy; what goes
// out waits as it is.
const (
	sendWindow    = 2 << 20
	receiveWindow = 1 << 20
	outQueue      = 128
	maxSegments   = 1<<16 - 1
)

// ipStack is the TCP/IP stack of a node. Packets from peers come in through the
// tunnel's hook, packets for them leave through a pump.
type ipStack struct {
	n     *Node
	ip    *stack.Stack
	link  *link
	ports ports
	wg    sync.WaitGroup
	stop  context.CancelFunc
}

func newStack(n *Node) (*ipStack, error) {
	s := &ipStack{n: n, link: &link{out: make(chan *stack.PacketBuffer, outQueue), closed: make(chan struct{})}}
	s.ip = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol6},
	})
	if err := s.tune(); err != nil {
		return nil, err
	}
	if err := s.ip.CreateNIC(nic, s.link); err != nil {
		return nil, fmt.Errorf("create interface: %s", err)
	}
	for _, a := range n.addresses {
		address := tcpip.ProtocolAddress{
			Protocol:          ipv6.ProtocolNumber,
			AddressWithPrefix: tcpip.AddrFrom16(a.As16()).WithPrefix(),
		}
		if err := s.ip.AddProtocolAddress(nic, address, stack.AddressProperties{}); err != nil {
			return nil, fmt.Errorf("add address %s: %s", a, err)
		}
	}
	s.ip.SetRouteTable([]tcpip.Route{{Destination: header.IPv6EmptySubnet, NIC: nic}})
	s.installForwarder()
	n.tun.PostFilterPacketInboundFromWireGuard = s.inbound
	n.tun.SetConnectionCounter(s.sent)
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.wg.Go(func() { s.pump(ctx) })
	return s, nil
}

// tune sets what differs from the stack's defaults.
func (s *ipStack) tune() error {
	sack, recovery, reno := tcpip.TCPSACKEnabled(true), tcpip.TCPRecovery(0), tcpip.CongestionControlOption("reno")
	rx := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: min(tcp.DefaultReceiveBufferSize, receiveWindow), Max: receiveWindow}
	tx := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: tcp.DefaultSendBufferSize, Max: sendWindow}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &recovery, &reno, &rx, &tx} {
		if err := s.ip.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("tune TCP: %s", err)
		}
	}
	return nil
}

// inbound takes a packet that came through WireGuard. The tunnel must not pass
// it on to anything else.
func (s *ipStack) inbound(p *packet.Parsed, _ *tstun.Wrapper, g *gro.GRO) (filter.Response, *gro.GRO) {
	d := s.link.dispatcher.Load()
	if d == nil || !s.isLocal(p.Dst.Addr()) {
		return filter.DropSilently, g
	}
	if p.IPProto == ipproto.Fragment {
		// It names no ports; those of another packet are still there.
		p.Src, p.Dst = netip.AddrPortFrom(p.Src.Addr(), 0), netip.AddrPortFrom(p.Dst.Addr(), 0)
	}
	s.n.count(p.IPProto, p.Dst, p.Src, 1, len(p.Buffer()), true)
	if isFragment(p.Buffer()) {
		s.deliverFragment(*d, p.Buffer())
		return filter.DropSilently, g
	}
	if p.IPProto == ipproto.TCP {
		if g == nil {
			g = gro.NewGRO()
			g.SetDispatcher(*d)
		}
		g.Enqueue(p) // the tunnel flushes at the end of the batch
		return filter.DropSilently, g
	}
	if whole := gro.RXChecksumOffload(p); whole != nil {
		(*d).DeliverNetworkPacket(whole.NetworkProtocolNumber, whole)
		whole.DecRef()
	}
	return filter.DropSilently, g
}

// isFragment says whether a packet is a part of a larger one (RFC 8200 section 4.5).
func isFragment(packet []byte) bool {
	return len(packet) >= header.IPv6MinimumSize && header.IPv6(packet).NextHeader() == uint8(header.IPv6FragmentHeader)
}

// deliverFragment hands over a part of a datagram that is larger than a packet. Its
// checksum is that of the whole, which nothing can be compared with here.
func (s *ipStack) deliverFragment(d stack.NetworkDispatcher, fragment []byte) {
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(bytes.Clone(fragment))})
	p.RXChecksumValidated = true
	d.DeliverNetworkPacket(ipv6.ProtocolNumber, p)
	p.DecRef()
}

// sent is called by the tunnel for every packet that leaves, after it was cut
// into segments. Packets that come in are counted in inbound: the tunnel does not
// see them when the stack takes them.
func (s *ipStack) sent(proto ipproto.Proto, src, dst netip.AddrPort, packets, bytes int, received bool) {
	if !received {
		s.n.count(proto, src, dst, packets, bytes, false)
	}
}

func (s *ipStack) isLocal(a netip.Addr) bool {
	for _, own := range s.n.addresses {
		if a == own {
			return true
		}
	}
	return false
}

// pump hands packets for peers to the tunnel.
func (s *ipStack) pump(ctx context.Context) {
	for {
		select {
		case p := <-s.link.out:
			// The tunnel takes the reference over.
			if err := s.n.tun.InjectOutboundPacketBuffer(p); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (s *ipStack) close() {
	s.ports.close()
	s.link.once.Do(func() { close(s.link.closed) })
	s.stop()
	s.ip.Destroy()
	s.wg.Wait()
	for {
		select {
		case p := <-s.link.out:
			p.DecRef()
		default:
			return
		}
	}
}

var errClosed = errors.New("the tailnet node is closed")

// link is the stack's network interface.
type link struct {
	out        chan *stack.PacketBuffer
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
	once       sync.Once
	closed     chan struct{}
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

// WritePackets queues packets; it waits while the queue is full, which holds up
// the sender and loses nothing.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	written := 0
	for _, p := range list.AsSlice() {
		select {
		case l.out <- p.IncRef():
			written++
		case <-l.closed:
			p.DecRef()
			return written, &tcpip.ErrClosedForSend{}
		}
	}
	return written, nil
}

func (l *link) MTU() uint32                             { return uint32(tstun.DefaultTUNMTU()) }
func (l *link) SetMTU(uint32)                           {}
func (l *link) IsAttached() bool                        { return l.dispatcher.Load() != nil }
func (l *link) Wait()                                   {}
func (l *link) Close()                                  {}
func (l *link) SetOnCloseAction(func())                 {}
func (l *link) MaxHeaderLength() uint16                 { return 0 }
func (l *link) LinkAddress() tcpip.LinkAddress          { return "" }
func (l *link) SetLinkAddress(tcpip.LinkAddress)        {}
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (l *link) AddHeader(*stack.PacketBuffer)           {}
func (l *link) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (l *link) GSOMaxSize() uint32                      { return maxSegments }
func (l *link) SupportedGSO() stack.SupportedGSO        { return stack.HostGSOSupported }

// Capabilities: checksums of received packets were checked by WireGuard.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// Attach implements stack.LinkEndpoint.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
}
