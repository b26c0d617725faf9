package tailnet

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"tailscale.com/tailcfg"
	"tailscale.com/wgengine"

	"github.com/worktally/worktally/wire/tailnetpb"
)

// publisher keeps the description of the own node for its peers.
type publisher struct {
	n *Node

	// mu guards everything below. The engine calls in with its own locks held.
	mu        sync.Mutex
	home      int
	connected bool             // the relay of home has answered, or was waited for long enough
	info      *tailcfg.NetInfo // of the last look at the network, nil before the first
	latency   map[string]float64
	public    []netip.AddrPort
	endpoints []string
	watch     chan struct{} // closed and replaced at each change
	done      chan struct{}
	wg        sync.WaitGroup
}

func newPublisher(n *Node) *publisher {
	return &publisher{n: n, watch: make(chan struct{}), done: make(chan struct{})}
}

func (p *publisher) close() {
	close(p.done)
	p.wg.Wait()
}

func (p *publisher) changedLocked() {
	close(p.watch)
	p.watch = make(chan struct{})
}

func (p *publisher) changed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changedLocked()
}

// setHome is called when the home relay was chosen. It is announced once the
// connection to it is up: a handshake through a relay that the node has not
// reached is lost, and costs the peer five seconds.
func (p *publisher) setHome(region int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.home == region {
		return
	}
	p.home, p.connected = region, false
	p.wg.Go(func() { p.awaitRelay(region) })
}

func (p *publisher) awaitRelay(region int) {
	deadline := time.After(settle)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case <-tick.C:
			waiting = p.n.health.GetDERPRegionReceivedTime(region).IsZero()
		case <-deadline:
			waiting = false
		case <-p.done:
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.home == region {
		p.connected = true
		p.changedLocked()
	}
}

// setNetInfo is called by the engine after each look at the network.
func (p *publisher) setNetInfo(info *tailcfg.NetInfo) {
	if info.PreferredDERP != 0 {
		p.setHome(info.PreferredDERP)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.info, p.latency = info, info.DERPLatency
	p.changedLocked()
}

// setStatus is called by the engine when the endpoints have changed.
func (p *publisher) setStatus(s *wgengine.Status, err error) {
	if err != nil || s == nil {
		return
	}
	onLoopback := p.n.relays.loopback()
	endpoints := make([]string, 0, len(s.LocalAddrs))
	for _, e := range s.LocalAddrs {
		// The node's own STUN answer names loopback addresses, which lead nowhere
		// unless everybody is on one machine.
		if e.Addr.Addr().IsLoopback() && !onLoopback {
			continue
		}
		endpoints = append(endpoints, e.Addr.String())
	}
	slices.SortFunc(endpoints, strings.Compare)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.public = publicAddresses(s.LocalAddrs)
	if !slices.Equal(p.endpoints, endpoints) {
		p.endpoints = endpoints
		p.changedLocked()
	}
}

// Self returns the description of the node for its peers, nil while its home
// relay is not up, and a channel that is closed when it has changed.
func (n *Node) Self() (*tailnetpb.Node, <-chan struct{}) {
	p := n.self
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.connected {
		return nil, p.watch
	}
	self := &tailnetpb.Node{
		Id: n.nodeID, AsOf: timestamppb.Now(), Key: append([]byte(keyPrefix), rawKey(n)...), Disco: discoText(n),
		PreferredDerp: int32(p.home), DerpLatency: p.latency, Addresses: texts(n.prefixes()), AllowedIps: texts(n.prefixes()),
	}
	if !n.blockDirect.Load() {
		self.Endpoints = p.endpoints
	}
	return self, p.watch
}

func rawKey(n *Node) []byte {
	raw := n.private.Public().Raw32()
	return raw[:]
}

func discoText(n *Node) string {
	text, err := n.sock.DiscoPublicKey().MarshalText()
	if err != nil {
		panic("BUG: tailnet: disco key: " + err.Error())
	}
	return string(text)
}

func texts(prefixes []netip.Prefix) []string {
	list := make([]string, len(prefixes))
	for i, p := range prefixes {
		list[i] = p.String()
	}
	return list
}
