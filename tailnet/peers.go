package tailnet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go4.org/mem"
	"tailscale.com/tailcfg"
	"tailscale.com/types/ipproto"
	"tailscale.com/types/key"
	"tailscale.com/wgengine"

	"github.com/worktally/worktally/wire/tailnetpb"
)

// Path is how a peer is reached at the moment.
type Path uint32

// The paths.
const (
	// PathDERP leads over a relay; it is also what is assumed at first.
	PathDERP Path = iota
	PathP2P
)

func (p Path) String() string {
	if p == PathP2P {
		return "p2p"
	}
	return "derp"
}

// Peer is another node. Its exported fields do not change.
type Peer struct {
	ID        uuid.UUID
	Addresses []netip.Addr
	path      atomic.Uint32
	person    atomic.Bool
	view      tailcfg.NodeView
	local     tailcfg.NodeID
}

// Path returns how the peer was reached last.
func (p *Peer) Path() Path { return Path(p.path.Load()) }

// Person says whether the peer has opened any other port than Options.ControlPort
// so far. Nothing that peers are told about each other says who they are; a
// control plane's own peer asks only there.
func (p *Peer) Person() bool { return p.person.Load() }

// peers are those that the coordinator named.
type peers struct {
	n *Node
	// changing serialises changes, which call into the engine. It is taken before
	// mu, and the engine's locks lie between the two.
	changing sync.Mutex

	// mu guards everything below. The engine calls back with locks of its own:
	// nothing may be called while mu is held.
	mu     sync.RWMutex
	byID   map[uuid.UUID]*Peer
	byKey  map[key.NodePublic]*Peer
	byAddr map[netip.Addr]*Peer
	wire   map[uuid.UUID]*tailnetpb.Node
	next   tailcfg.NodeID
	timers map[uuid.UUID]*time.Timer // of lost peers
	closed bool
	checks sync.WaitGroup
	life   context.Context
	end    context.CancelFunc

	// lookup is byAddr as the packet path sees it: replaced, never changed.
	lookup atomic.Pointer[map[netip.Addr]*Peer]
}

func newPeers(n *Node) *peers {
	p := &peers{
		n: n, byID: make(map[uuid.UUID]*Peer), byKey: make(map[key.NodePublic]*Peer), byAddr: make(map[netip.Addr]*Peer),
		wire: make(map[uuid.UUID]*tailnetpb.Node), timers: make(map[uuid.UUID]*time.Timer), next: 1,
	}
	p.life, p.end = context.WithCancel(context.Background())
	p.showLocked()
	return p
}

// showLocked lets the packet path see a change.
func (p *peers) showLocked() {
	m := maps.Clone(p.byAddr)
	p.lookup.Store(&m)
}

// at returns the peer with an address, nil if there is none. It takes no lock.
func (p *peers) at(a netip.Addr) *Peer { return (*p.lookup.Load())[a] }

// config, keyByAddr and forIP answer the engine.
func (p *peers) config(k key.NodePublic) ([]netip.Prefix, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	peer, ok := p.byKey[k]
	if !ok {
		return nil, false
	}
	return peer.view.AllowedIPs().AsSlice(), true
}

func (p *peers) keyByAddr(a netip.Addr) (key.NodePublic, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	peer, ok := p.byAddr[a]
	if !ok {
		return key.NodePublic{}, false
	}
	return peer.view.Key(), true
}

func (p *peers) forIP(a netip.Addr) (r wgengine.PeerForIP, ok bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	peer, ok := p.byAddr[a]
	if !ok {
		return r, false
	}
	return wgengine.PeerForIP{Node: peer.view, Route: netip.PrefixFrom(a, a.BitLen())}, true
}

// notePath hears of every datagram with its real destination: over a relay that
// is a made-up address.
func (p *peers) notePath(_ ipproto.Proto, peer, through netip.AddrPort, _, _ int, _ bool) {
	known := p.at(peer.Addr())
	if known == nil {
		return
	}
	path := uint32(PathP2P)
	if through.Addr() == tailcfg.DerpMagicIPAddr {
		path = uint32(PathDERP)
	}
	if known.path.Load() != path {
		known.path.Store(path)
		if path == uint32(PathP2P) {
			p.n.width.check(through)
		}
	}
}

// opened hears of every connection that a peer has opened.
func (p *peers) opened(peer netip.Addr, port uint16) {
	if known := p.at(peer); known != nil && port != p.n.o.ControlPort {
		known.person.Store(true)
	}
}

// count hands a packet to the counter under its peer.
func (n *Node) count(proto ipproto.Proto, local, remote netip.AddrPort, packets, bytes int, received bool) {
	if peer := n.peers.at(remote.Addr()); peer != nil {
		n.o.Counter.Packets(peer, uint8(proto), local, remote, packets, bytes, received)
	}
}

// Upsert names a peer or what has changed about it. A node that would take
// somebody else's address is refused.
func (n *Node) Upsert(id uuid.UUID, node *tailnetpb.Node) error {
	p := n.peers
	p.changing.Lock()
	defer p.changing.Unlock()
	return p.upsert(id, node)
}

func (p *peers) upsert(id uuid.UUID, node *tailnetpb.Node) error {
	if node.GetPreferredDerp() == 0 {
		return nil // it cannot be reached yet; another update follows
	}
	p.mu.RLock()
	old, local := p.byID[id], p.next
	p.mu.RUnlock()
	config, err := p.peerConfig(local, node)
	if err != nil {
		return fmt.Errorf("peer %s: %w", id, err)
	}
	peer := &Peer{ID: id}
	for _, prefix := range config.Addresses {
		peer.Addresses = append(peer.Addresses, prefix.Addr())
	}
	if old == nil {
		old = p.former(config.Key, peer.Addresses)
	}
	if old != nil {
		config.ID = old.local
	}
	peer.view, peer.local = config.View(), config.ID
	if old != nil {
		peer.path.Store(old.path.Load())
		peer.person.Store(old.person.Load())
	}
	if err := p.replace(old, peer, node); err != nil {
		return fmt.Errorf("peer %s: %w", id, err)
	}
	p.n.sock.UpsertPeer(peer.view)
	p.n.syncDevice(peer.view.Key())
	if old != nil && old.view.Key() != peer.view.Key() {
		p.n.syncDevice(old.view.Key())
	}
	return nil
}

// former returns the peer that is the same node under another id. A client that has
// lost its session, and what would prove who it was, comes back as another peer;
// under the former id nobody would ever remove it.
func (p *peers) former(k key.NodePublic, addresses []netip.Addr) *Peer {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if peer := p.byKey[k]; peer != nil && slices.Equal(peer.Addresses, addresses) {
		return peer
	}
	return nil
}

func (p *peers) replace(old, peer *Peer, node *tailnetpb.Node) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range peer.Addresses {
		if owner := p.byAddr[a]; owner != nil && owner != old {
			return fmt.Errorf("address %s belongs to peer %s", a, owner.ID)
		}
	}
	if owner := p.byKey[peer.view.Key()]; owner != nil && owner != old {
		return fmt.Errorf("its key belongs to peer %s", owner.ID)
	}
	if old != nil {
		p.forgetLocked(old)
	} else {
		p.next++
	}
	p.byID[peer.ID], p.byKey[peer.view.Key()], p.wire[peer.ID] = peer, peer, node
	for _, a := range peer.Addresses {
		p.byAddr[a] = peer
	}
	p.showLocked()
	return nil
}

func (p *peers) forgetLocked(peer *Peer) {
	delete(p.byID, peer.ID)
	delete(p.byKey, peer.view.Key())
	delete(p.wire, peer.ID)
	for _, a := range peer.Addresses {
		delete(p.byAddr, a)
	}
	if t := p.timers[peer.ID]; t != nil {
		t.Stop()
		delete(p.timers, peer.ID)
	}
}

// Remove forgets a peer at once.
func (n *Node) Remove(id uuid.UUID) {
	p := n.peers
	p.changing.Lock()
	defer p.changing.Unlock()
	p.mu.Lock()
	peer := p.byID[id]
	if peer != nil {
		p.forgetLocked(peer)
		p.showLocked()
	}
	p.mu.Unlock()
	if peer == nil {
		return
	}
	p.n.sock.RemovePeer(peer.local)
	p.n.syncDevice(peer.view.Key())
	n.stack.ports.dropPeer(func(a netip.Addr) bool { return slices.Contains(peer.Addresses, a) })
}

// resync programs all peers again, because what may be told of them has changed.
func (p *peers) resync() {
	p.changing.Lock()
	defer p.changing.Unlock()
	p.mu.RLock()
	nodes := make(map[uuid.UUID]*tailnetpb.Node, len(p.wire))
	for id, node := range p.wire {
		nodes[id] = node
	}
	p.mu.RUnlock()
	for id, node := range nodes {
		if err := p.upsert(id, node); err != nil {
			p.n.log.Warn("program peer again", "peer", id, "err", err)
		}
	}
}

// Peers returns the peers of the moment.
func (n *Node) Peers() []*Peer {
	n.peers.mu.RLock()
	defer n.peers.mu.RUnlock()
	list := make([]*Peer, 0, len(n.peers.byID))
	for _, peer := range n.peers.byID {
		list = append(list, peer)
	}
	return list
}

// close ends the checks of lost peers. Nothing is checked afterwards.
func (p *peers) close() {
	p.mu.Lock()
	p.closed = true
	for _, t := range p.timers {
		t.Stop()
	}
	p.mu.Unlock()
	p.end()
	p.checks.Wait()
}

// syncDevice tells WireGuard that what it may know of a key has changed.
func (n *Node) syncDevice(k key.NodePublic) { n.engine.SyncDevicePeer(k) }

// peerConfig translates a node. Endpoints are left out while direct connections
// are blocked.
func (p *peers) peerConfig(local tailcfg.NodeID, node *tailnetpb.Node) (*tailcfg.Node, error) {
	config := &tailcfg.Node{
		ID: local, HomeDERP: int(node.GetPreferredDerp()), MachineAuthorized: true, Hostinfo: (&tailcfg.Hostinfo{}).View(),
	}
	var err error
	if config.Key, err = nodeKey(node.GetKey()); err != nil {
		return nil, err
	}
	if config.Key == p.n.private.Public() {
		return nil, errors.New("its key is the node's own")
	}
	if err := config.DiscoKey.UnmarshalText([]byte(node.GetDisco())); err != nil {
		return nil, fmt.Errorf("disco key: %w", err)
	}
	if config.DiscoKey.IsZero() {
		return nil, errors.New("its disco key is zero")
	}
	if config.HomeDERP < 0 || config.HomeDERP > maxRegion {
		return nil, fmt.Errorf("its home region %d is out of bounds", config.HomeDERP)
	}
	if config.Addresses, err = hostPrefixes(node.GetAddresses()); err != nil {
		return nil, err
	}
	if config.AllowedIPs, err = hostPrefixes(node.GetAllowedIps()); err != nil {
		return nil, err
	}
	if len(config.Addresses) == 0 {
		return nil, errors.New("it has no address")
	}
	if slices.ContainsFunc(config.Addresses, func(a netip.Prefix) bool { return slices.Contains(p.n.addresses, a.Addr()) }) {
		return nil, errors.New("its address is the node's own")
	}
	for _, text := range node.GetEndpoints() {
		if p.n.blockDirect.Load() || len(config.Endpoints) >= maxEndpoints {
			break
		}
		e, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, fmt.Errorf("endpoint: %w", err)
		}
		config.Endpoints = append(config.Endpoints, e)
	}
	return config, nil
}

// maxEndpoints and maxAddresses bound what one peer may announce.
const (
	maxEndpoints = 64
	maxAddresses = 8
)

const keyPrefix = "np"

// nodeKey reads a key: "np" and 32 bytes.
func nodeKey(b []byte) (k key.NodePublic, err error) {
	if len(b) != len(keyPrefix)+32 || string(b[:2]) != keyPrefix {
		return k, fmt.Errorf("a node key has %d bytes and its own prefix, not %d", len(keyPrefix)+32, len(b))
	}
	if k = key.NodePublicFromRaw32(mem.B(b[2:])); k.IsZero() {
		return k, errors.New("its key is zero")
	}
	return k, nil
}

// hostPrefixes reads addresses, each of which stands for itself only.
func hostPrefixes(list []string) ([]netip.Prefix, error) {
	if len(list) > maxAddresses {
		return nil, fmt.Errorf("%d addresses are too many", len(list))
	}
	prefixes := make([]netip.Prefix, 0, len(list))
	for _, text := range list {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		if prefix.Bits() != 128 {
			return nil, fmt.Errorf("%s is not a single address", text)
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}
