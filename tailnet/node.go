package tailnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go4.org/netipx"
	"tailscale.com/health"
	"tailscale.com/net/dns"
	"tailscale.com/net/netmon"
	"tailscale.com/net/tsdial"
	"tailscale.com/net/tstun"
	"tailscale.com/tailcfg"
	"tailscale.com/types/ipproto"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
	"tailscale.com/types/views"
	"tailscale.com/util/eventbus"
	"tailscale.com/util/usermetric"
	"tailscale.com/wgengine"
	"tailscale.com/wgengine/filter"
	"tailscale.com/wgengine/magicsock"
	"tailscale.com/wgengine/router"
	"tailscale.com/wgengine/wgcfg"

	"github.com/google/uuid"
)

// Node is one peer of the tailnet.
type Node struct {
	o         Options
	log       *slog.Logger
	addresses []netip.Addr
	nodeID    int64
	private   key.NodePrivate

	bus     *eventbus.Bus
	health  *health.Tracker
	monitor *netmon.Monitor
	dialer  *tsdial.Dialer
	engine  wgengine.Engine
	sock    *magicsock.Conn
	tun     *tstun.Wrapper
	stack   *ipStack
	relays  *relays
	self    *publisher
	peers   *peers
	width   width

	blockDirect atomic.Bool
	closeOnce   sync.Once
	closed      chan struct{}
}

// New starts a node. It reaches nobody before it has relays and peers.
func New(o Options) (n *Node, err error) {
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	n = &Node{
		o: o, log: o.Log, addresses: o.addresses(), private: key.NewNode(), nodeID: randomNodeID(),
		closed: make(chan struct{}),
	}
	if o.ID != uuid.Nil {
		n.nodeID = agentNodeID(o.ID)
	}
	n.peers, n.width.n = newPeers(n), n
	if err := n.startEngine(); err != nil {
		n.Close()
		return nil, fmt.Errorf("tailnet: %w", err)
	}
	return n, nil
}

// startEngine follows the one order of calls in which the engine comes up.
func (n *Node) startEngine() (err error) {
	logf := n.logf()
	n.bus = eventbus.New()
	n.health = health.NewTracker(n.bus)
	if n.monitor, err = netmon.New(n.bus, logf); err != nil {
		return fmt.Errorf("watch network interfaces: %w", err)
	}
	n.dialer = &tsdial.Dialer{Logf: logf}
	n.dialer.SetBus(n.bus)
	n.engine, err = wgengine.NewUserspaceEngine(logf, wgengine.Config{
		EventBus: n.bus, NetMon: n.monitor, HealthTracker: n.health, Dialer: n.dialer, Metrics: new(usermetric.Registry),
		ControlKnobs: &n.width.knobs, ListenPort: n.o.ListenPort,
		SetSubsystem: func(v any) {
			switch v := v.(type) {
			case *magicsock.Conn:
				n.sock = v
			case *tstun.Wrapper:
				n.tun = v
			}
		},
	})
	if err != nil {
		return fmt.Errorf("start WireGuard: %w", err)
	}
	if n.sock == nil || n.tun == nil {
		return errors.New("the engine has no socket or no tunnel")
	}
	n.engine.SetPeerConfigFunc(n.peers.config)
	n.engine.SetPeerByIPPacketFunc(n.peers.keyByAddr)
	n.engine.SetPeerForIPFunc(n.peers.forIP)
	n.sock.SetConnectionCounter(n.peers.notePath)
	n.self = newPublisher(n)
	n.relays = newRelays(n)
	n.sock.SetNetInfoCallback(n.self.setNetInfo)
	n.engine.SetStatusCallback(n.self.setStatus)
	if n.stack, err = newStack(n); err != nil {
		return err
	}
	return n.configure(logf)
}

func (n *Node) configure(logf logger.Logf) error {
	self := n.selfView()
	n.engine.SetSelfNode(self)
	accept, err := acceptAll(n.addresses, logf)
	if err != nil {
		return err
	}
	n.engine.SetFilter(accept)
	n.sock.SetNetworkMap(self, nil)
	prefixes := n.prefixes()
	err = n.engine.Reconfig(&wgcfg.Config{PrivateKey: n.private, Addresses: prefixes}, &router.Config{LocalAddrs: prefixes}, &dns.Config{})
	if err != nil && !errors.Is(err, wgengine.ErrNoChanges) {
		return fmt.Errorf("configure WireGuard: %w", err)
	}
	n.tun.Start()
	return nil
}

// prefixes are the node's addresses as /128.
func (n *Node) prefixes() []netip.Prefix {
	prefixes := make([]netip.Prefix, len(n.addresses))
	for i, a := range n.addresses {
		prefixes[i] = netip.PrefixFrom(a, a.BitLen())
	}
	return prefixes
}

func (n *Node) selfView() tailcfg.NodeView {
	return (&tailcfg.Node{
		ID: 1, Key: n.private.Public(), DiscoKey: n.sock.DiscoPublicKey(), Addresses: n.prefixes(), AllowedIPs: n.prefixes(),
		Hostinfo: (&tailcfg.Hostinfo{}).View(), MachineAuthorized: true,
	}).View()
}

// acceptAll lets everything in that is meant for the node: who may be a peer was
// decided by whoever named the peers.
func acceptAll(addresses []netip.Addr, logf logger.Logf) (*filter.Filter, error) {
	everywhere := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	var local netipx.IPSetBuilder
	for _, a := range addresses {
		local.Add(a)
	}
	localSet, err := local.IPSet()
	if err != nil {
		return nil, err
	}
	match := filter.Match{
		IPProto: views.SliceOf([]ipproto.Proto{ipproto.TCP, ipproto.UDP, ipproto.ICMPv6}),
		Srcs:    []netip.Prefix{everywhere},
		Dsts:    []filter.NetPortRange{{Net: everywhere, Ports: filter.PortRange{First: 0, Last: 65535}}},
	}
	match.SrcsContains = func(a netip.Addr) bool { return a.Is6() }
	return filter.New([]filter.Match{match}, nil, localSet, new(netipx.IPSet), nil, logf), nil
}

// logf passes the library's log on: what it marks as verbose is for finding
// faults only.
func (n *Node) logf() logger.Logf {
	return func(format string, args ...any) {
		if n.log.Enabled(context.Background(), slog.LevelDebug) {
			n.log.Debug("tailnet", "text", fmt.Sprintf(format, args...))
		}
	}
}

// Addr returns the address under which the node is reached.
func (n *Node) Addr() netip.Addr { return n.addresses[0] }

// Close ends the node and everything on it, and waits for its goroutines.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		close(n.closed)
		n.peers.close()
		n.width.close()
		if n.self != nil {
			n.self.close()
		}
		if n.stack != nil {
			n.stack.close()
		}
		if n.engine != nil {
			n.engine.Close()
			<-n.engine.Done()
		}
		if n.relays != nil {
			n.relays.close()
		}
		if n.monitor != nil {
			_ = n.monitor.Close()
		}
		if n.dialer != nil {
			_ = n.dialer.Close()
		}
		if n.bus != nil {
			n.bus.Close()
		}
	})
	return nil
}

// BlockDirect keeps the node on relays: no UDP is sent or answered, and peers
// are not told of endpoints. It may be changed at any time.
func (n *Node) BlockDirect(block bool) {
	if n.blockDirect.Swap(block) == block {
		return
	}
	n.sock.SetOnlyTCP443(block)
	n.peers.resync()
	n.self.changed()
}

// settle is how long the first announcement of the node waits for its relay.
const settle = 2 * time.Second
