package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/wire/tailnetpb"
)

// responseQueue bounds what waits for a peer that does not read.
const responseQueue = 512

// Options of a Coordinator.
type Options struct {
	Log *slog.Logger
	// DERPMap returns the relay map; it must have home params and a region.
	// Required.
	DERPMap func() *tailnetpb.DERPMap
	// OnAgentNode is called after an agent announced its first node, or another one.
	// It must neither block nor call the coordinator. nil: nobody asks.
	OnAgentNode func()
}

// Coordinator knows the peers and their tunnels. Its methods are safe for
// concurrent use.
type Coordinator struct {
	o     Options
	log   *slog.Logger
	c     *counts
	grace time.Duration // endGrace, but for tests

	// mu guards everything below.
	mu      sync.Mutex
	closed  bool
	peers   map[uuid.UUID]*peer
	tunnels tunnels
	holders map[netip.Addr]*peer
}

// peer is one open Coordinate stream.
type peer struct {
	id   uuid.UUID
	auth Auth
	// end ends the whole session of a peer that does not read; nothing else can
	// interrupt a write that waits for it.
	end  context.CancelCauseFunc
	out  chan *tailnetpb.CoordinateResponse
	node *tailnetpb.Node
	// ending: the peer is to read its last words before its session ends. done is
	// closed when its stream is over.
	ending bool
	done   chan struct{}
	// holds are the addresses that are this peer's and nobody else's.
	holds []netip.Addr
	// sent are the nodes that the peer was told, by peer.
	sent map[uuid.UUID]*tailnetpb.Node
	gone bool
}

// New returns a coordinator without peers. It has no goroutine of its own.
func New(o Options) *Coordinator {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnAgentNode == nil {
		o.OnAgentNode = func() {}
	}
	return &Coordinator{o: o, log: o.Log, c: newCounts(), grace: endGrace, peers: make(map[uuid.UUID]*peer), tunnels: newTunnels(), holders: make(map[netip.Addr]*peer)}
}

var (
	errNotReading = errors.New("the peer does not read its updates")
	errEnded      = errors.New("the peer is no longer allowed")
	errReplaced   = errors.New("the peer has come back under another id")
	errNotItsOwn  = errors.New("the peer announced an address that is an agent's")
)

// Node returns the node that a connected peer announced, nil if there is none. It
// must not be changed.
func (c *Coordinator) Node(id uuid.UUID) *tailnetpb.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.peers[id]; p != nil {
		return p.node
	}
	return nil
}

// Close ends all streams, everybody being told that the others are lost, and
// refuses new ones. It does not wait for the streams; their sessions do.
func (c *Coordinator) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, p := range c.peers {
		for about := range p.sent {
			c.forgetLocked(p, about, tailnetpb.CoordinateResponse_PeerUpdate_LOST, "lost")
		}
	}
	for _, p := range c.peers {
		c.endLocked(p, "coordinator closed")
	}
}

// join opens a stream for the peer. An older stream of the same peer ends, and
// nobody else hears of that.
func (c *Coordinator) join(id uuid.UUID, auth Auth, end context.CancelCauseFunc) (p *peer, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, false
	}
	p = &peer{id: id, auth: auth, end: end, out: make(chan *tailnetpb.CoordinateResponse, responseQueue), sent: make(map[uuid.UUID]*tailnetpb.Node), done: make(chan struct{})}
	if old := c.peers[id]; old != nil {
		c.endLocked(old, "peer ID overwritten by new connection")
	}
	c.peers[id] = p
	var updates []*tailnetpb.CoordinateResponse_PeerUpdate
	for other := range c.tunnels.partnersOf(id) {
		if o := c.peers[other]; o != nil && o.node != nil {
			p.sent[other] = o.node
			updates = append(updates, nodeUpdate(o, "init"))
		}
	}
	if len(updates) > 0 {
		c.sendLocked(p, &tailnetpb.CoordinateResponse{PeerUpdates: updates})
	}
	return p, true
}

// endLocked closes a peer's stream after a last word and forgets the peer.
// Whether others are told is the caller's decision.
func (c *Coordinator) endLocked(p *peer, lastWord string) {
	if p.gone {
		return
	}
	if lastWord != "" {
		select {
		case p.out <- &tailnetpb.CoordinateResponse{Error: lastWord}:
		default: // the queue is full: it would not have read it
		}
	}
	p.gone = true
	close(p.out)
	c.releaseLocked(p)
	if c.peers[p.id] == p {
		delete(c.peers, p.id)
	}
}

// leave ends a peer's stream and tells its partners why. Tunnels that it asked
// for end with it; those that lead to it stay, so that it is found again after a
// reconnect.
func (c *Coordinator) leave(p *peer, kind tailnetpb.CoordinateResponse_PeerUpdate_Kind, reason, lastWord string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaveLocked(p, kind, reason, lastWord)
}

func (c *Coordinator) leaveLocked(p *peer, kind tailnetpb.CoordinateResponse_PeerUpdate_Kind, reason, lastWord string) {
	if p.gone {
		return
	}
	c.endLocked(p, lastWord)
	for other := range c.tunnels.partnersOf(p.id) {
		c.forgetLocked(c.peers[other], p.id, kind, reason)
	}
	c.tunnels.removeFrom(p.id)
}

// forgetLocked tells a peer that another one is gone, if it was told of it.
func (c *Coordinator) forgetLocked(to *peer, about uuid.UUID, kind tailnetpb.CoordinateResponse_PeerUpdate_Kind, reason string) {
	if to == nil {
		return
	}
	if _, told := to.sent[about]; !told {
		return
	}
	delete(to.sent, about)
	c.sendLocked(to, &tailnetpb.CoordinateResponse{PeerUpdates: []*tailnetpb.CoordinateResponse_PeerUpdate{
		{Id: about[:], Kind: kind, Reason: reason},
	}})
}

// tellLocked passes a peer's node on to another, unless it knows it already.
func (c *Coordinator) tellLocked(to, about *peer, reason string) {
	if to == nil || about == nil || about.node == nil || to == about {
		return
	}
	if known := to.sent[about.id]; known != nil && proto.Equal(known, about.node) {
		return
	}
	to.sent[about.id] = about.node
	c.sendLocked(to, &tailnetpb.CoordinateResponse{PeerUpdates: []*tailnetpb.CoordinateResponse_PeerUpdate{nodeUpdate(about, reason)}})
}

func nodeUpdate(p *peer, reason string) *tailnetpb.CoordinateResponse_PeerUpdate {
	return &tailnetpb.CoordinateResponse_PeerUpdate{
		Id: p.id[:], Node: p.node, Kind: tailnetpb.CoordinateResponse_PeerUpdate_NODE, Reason: reason,
	}
}

// sendLocked queues a response. A peer that does not read is removed, and its
// session ended.
func (c *Coordinator) sendLocked(p *peer, r *tailnetpb.CoordinateResponse) {
	if p.gone {
		return
	}
	select {
	case p.out <- r:
	default:
		c.c.add(reasonQueueFull)
		c.log.Warn("peer does not read its updates; removing it", "peer", p.id)
		c.leaveLocked(p, tailnetpb.CoordinateResponse_PeerUpdate_LOST, "lost", "")
		p.end(errNotReading)
	}
}
