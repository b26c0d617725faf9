package tailnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/tailnetpb"
)

const (
	// gather is how long changes of the own node are gathered before they are
	// announced.
	gather = 20 * time.Millisecond
	// readyWithin is how long a client waits for a peer's word that it is ready.
	readyWithin = 5 * time.Second
	// goodbyeWithin is how long the coordinator may take to close the stream.
	goodbyeWithin = time.Second
)

// FollowRelayMaps applies the relay maps that the server sends until the context
// or the stream ends. A map that cannot be used is logged; the last one stays.
func (n *Node) FollowRelayMaps(ctx context.Context, api tailnetpb.DRPCTailnetClient) error {
	stream, err := api.StreamDERPMaps(ctx, &tailnetpb.StreamDERPMapsRequest{})
	if err != nil {
		return fmt.Errorf("follow relay maps: %w", err)
	}
	defer stream.Close()
	for {
		m, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("follow relay maps: %w", err)
		}
		if err := n.SetRelayMap(m); err != nil {
			n.log.Error("the server sent a relay map that cannot be used", "err", err)
		}
	}
}

// Coordinate announces the node and takes in the peers that the coordinator
// names, until the context ends, which is said in order, or the stream breaks. A
// client names the peers it wants to reach; an agent names none and tells each
// peer when it is ready.
func (n *Node) Coordinate(ctx context.Context, api tailnetpb.DRPCTailnetClient, destinations ...uuid.UUID) error {
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stream, err := api.Coordinate(streamCtx)
	if err != nil {
		return fmt.Errorf("coordinate: %w", err)
	}
	c := &coordination{n: n, stream: stream, client: len(destinations) > 0, waiting: make(map[uuid.UUID]*waitingPeer)}
	for _, d := range destinations {
		if err := c.send(&tailnetpb.CoordinateRequest{AddTunnel: &tailnetpb.CoordinateRequest_Tunnel{Id: d[:]}}); err != nil {
			return fmt.Errorf("coordinate: %w", err)
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer c.stop()
	wg.Go(func() { c.announce(streamCtx) })
	ended := make(chan error, 1)
	wg.Go(func() { ended <- c.receive() })
	select {
	case err := <-ended:
		n.peers.allLost()
		return fmt.Errorf("coordinate: %w", err)
	case <-ctx.Done():
	}
	// The coordinator closes the stream when it has told everybody.
	if err := c.send(&tailnetpb.CoordinateRequest{Disconnect: &tailnetpb.CoordinateRequest_Disconnect{}}); err == nil {
		select {
		case <-ended:
		case <-time.After(goodbyeWithin):
		}
	}
	return ctx.Err()
}

// coordination is one Coordinate stream.
type coordination struct {
	n      *Node
	client bool

	sending sync.Mutex
	stream  tailnetpb.DRPCTailnet_CoordinateClient

	mu      sync.Mutex
	stopped bool
	waiting map[uuid.UUID]*waitingPeer
}

// waitingPeer is a node that a client was told and has not programmed yet.
type waitingPeer struct {
	node  *tailnetpb.Node
	timer *time.Timer
}

func (c *coordination) send(r *tailnetpb.CoordinateRequest) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.stream.Send(r)
}

// announce sends the own node whenever it has changed in a way that matters.
func (c *coordination) announce(ctx context.Context) {
	var last *tailnetpb.Node
	for {
		self, changed := c.n.Self()
		if self != nil && !sameNode(last, self) {
			if err := c.send(&tailnetpb.CoordinateRequest{UpdateSelf: &tailnetpb.CoordinateRequest_UpdateSelf{Node: self}}); err != nil {
				return // receive reports why
			}
			last = self
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		if self == nil {
			continue // the first announcement is not held back
		}
		select {
		case <-time.After(gather):
		case <-ctx.Done():
			return
		}
	}
}

// sameNode says whether two descriptions mean the same to peers.
func sameNode(a, b *tailnetpb.Node) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := proto.CloneOf(a), proto.CloneOf(b)
	x.AsOf, y.AsOf = nil, nil
	// Latencies always differ; which regions were measured is what matters.
	for _, n := range []*tailnetpb.Node{x, y} {
		for region := range n.DerpLatency {
			n.DerpLatency[region] = 0
		}
	}
	return proto.Equal(x, y)
}

func (c *coordination) receive() error {
	for {
		r, err := c.stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the coordinator closed the stream")
			}
			return err
		}
		if text := r.GetError(); text != "" {
			c.n.log.Warn("the coordinator says", "err", text)
		}
		if err := c.handle(r.GetPeerUpdates()); err != nil {
			return err
		}
	}
}

// handle takes in the updates of one response and acknowledges its nodes.
func (c *coordination) handle(updates []*tailnetpb.CoordinateResponse_PeerUpdate) error {
	var ready []*tailnetpb.CoordinateRequest_ReadyForHandshake
	for _, u := range updates {
		id, err := wire.UUID("peer id", u.GetId())
		if err != nil {
			c.n.log.Warn("the coordinator named a peer wrongly", "err", err)
			continue
		}
		switch u.GetKind() {
		case tailnetpb.CoordinateResponse_PeerUpdate_NODE:
			if u.GetNode() == nil {
				continue
			}
			if c.client && c.hold(id, u.GetNode()) {
				continue
			}
			if c.program(id, u.GetNode()) && !c.client {
				ready = append(ready, &tailnetpb.CoordinateRequest_ReadyForHandshake{Id: u.GetId()})
			}
		case tailnetpb.CoordinateResponse_PeerUpdate_READY_FOR_HANDSHAKE:
			c.release(id)
		case tailnetpb.CoordinateResponse_PeerUpdate_DISCONNECTED:
			c.forget(id)
			c.n.Remove(id)
		case tailnetpb.CoordinateResponse_PeerUpdate_LOST:
			c.n.peers.loose(id)
		}
	}
	if len(ready) == 0 {
		return nil
	}
	return c.send(&tailnetpb.CoordinateRequest{ReadyForHandshake: ready})
}

func (c *coordination) program(id uuid.UUID, node *tailnetpb.Node) bool {
	if err := c.n.Upsert(id, node); err != nil {
		c.n.log.Warn("a peer cannot be used", "err", err)
		return false
	}
	c.n.log.Debug("peer", "id", strings.ToLower(id.String()), "home", node.GetPreferredDerp())
	return true
}

// hold keeps a new peer's node until the peer is ready for the handshake, or for
// so long that it may never say so. A peer that is known is not held.
func (c *coordination) hold(id uuid.UUID, node *tailnetpb.Node) bool {
	if c.n.peers.known(id) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return true
	}
	if w := c.waiting[id]; w != nil {
		w.node = node
		return true
	}
	c.waiting[id] = &waitingPeer{node: node, timer: time.AfterFunc(readyWithin, func() { c.release(id) })}
	return true
}

func (c *coordination) release(id uuid.UUID) {
	if node := c.forget(id); node != nil {
		c.program(id, node)
	}
}

func (c *coordination) forget(id uuid.UUID) *tailnetpb.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.waiting[id]
	if w == nil {
		return nil
	}
	w.timer.Stop()
	delete(c.waiting, id)
	return w.node
}

func (c *coordination) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	for _, w := range c.waiting {
		w.timer.Stop()
	}
}

func (p *peers) known(id uuid.UUID) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.byID[id] != nil
}

// loose is called when the coordinator has lost a peer. It may be alive and only
// cut off from the coordinator, as after a restart of the server: then it answers
// pings, and is kept. One that is silent is gone, with its connections.
func (p *peers) loose(id uuid.UUID) { p.checkLater(id, lostCheck, 0) }

const (
	// lostCheck is the time between pings of a lost peer.
	lostCheck = 5 * time.Second
	// lostPatience is how long it may take to answer one.
	lostPatience = 3 * time.Second
	// lostMisses is how many in a row it may leave unanswered.
	lostMisses = 2
	// aloneCheck is how long nobody is doubted after the node itself lost the
	// coordinator: without it, and perhaps without relay, nothing is known.
	aloneCheck = 15 * time.Minute
)

// checkLater pings a lost peer after a while, which left misses pings
// unanswered.
func (p *peers) checkLater(id uuid.UUID, after time.Duration, misses int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	peer := p.byID[id]
	if peer == nil || p.closed {
		return
	}
	if t := p.timers[id]; t != nil {
		t.Stop()
	}
	p.timers[id] = time.AfterFunc(after, func() { p.check(peer, misses) })
}

func (p *peers) check(peer *Peer, misses int) {
	p.mu.Lock()
	if p.closed || p.byID[peer.ID] != peer {
		p.mu.Unlock()
		return // it is closed, gone, or was named again
	}
	p.checks.Add(1)
	p.mu.Unlock()
	defer p.checks.Done()
	ctx, cancel := context.WithTimeout(p.life, lostPatience)
	defer cancel()
	if _, err := p.n.Ping(ctx, peer.Addresses[0]); err == nil {
		p.checkLater(peer.ID, lostCheck, 0)
		return
	}
	if misses++; misses < lostMisses {
		p.checkLater(peer.ID, lostCheck, misses)
		return
	}
	p.n.log.Info("a lost peer is silent; forgetting it", "peer", peer.ID)
	p.n.Remove(peer.ID)
}

// allLost is called when the own stream has broken.
func (p *peers) allLost() {
	for _, peer := range p.n.Peers() {
		p.checkLater(peer.ID, aloneCheck, 0)
	}
}
