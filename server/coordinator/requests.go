package coordinator

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// errDone: the peer said goodbye.
var errDone = errors.New("graceful disconnect")

// handle carries out one request of a peer. An error ends its stream.
func (c *Coordinator) handle(p *peer, r *tailnetpb.CoordinateRequest) error {
	if err := p.auth.Check(r); err != nil {
		c.c.add(reasonUnauthorized)
		return fmt.Errorf("authorization: %w", err)
	}
	if u := r.GetUpdateSelf(); u != nil {
		if u.GetNode() == nil {
			c.c.add(reasonMalformed)
			return errors.New("update_self without a node")
		}
		if err := c.update(p, u.GetNode()); err != nil {
			c.c.add(reasonUnauthorized)
			return fmt.Errorf("authorization: %w", err)
		}
	}
	if t := r.GetAddTunnel(); t != nil {
		id, err := wire.UUID("add_tunnel.id", t.GetId())
		if err != nil {
			c.c.add(reasonMalformed)
			return err
		}
		if err := c.addTunnel(p, id); err != nil {
			return err
		}
	}
	if t := r.GetRemoveTunnel(); t != nil {
		id, err := wire.UUID("remove_tunnel.id", t.GetId())
		if err != nil {
			c.c.add(reasonMalformed)
			return err
		}
		c.removeTunnel(p, id)
	}
	for _, ready := range r.GetReadyForHandshake() {
		id, err := wire.UUID("ready_for_handshake.id", ready.GetId())
		if err != nil {
			c.c.add(reasonMalformed)
			return err
		}
		c.ready(p, id)
	}
	if r.GetDisconnect() != nil {
		return errDone
	}
	return nil
}

func (c *Coordinator) update(p *peer, node *tailnetpb.Node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.gone {
		return nil
	}
	if err := c.holdLocked(p, node); err != nil {
		return err
	}
	if _, agent := p.auth.(AgentAuth); agent && p.node.GetId() != node.GetId() {
		c.o.OnAgentNode()
	}
	p.node = node
	for other := range c.tunnels.partnersOf(p.id) {
		c.tellLocked(c.peers[other], p, "node update")
	}
	return nil
}

func (c *Coordinator) addTunnel(p *peer, dst uuid.UUID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.gone {
		return nil
	}
	if !c.tunnels.add(p.id, dst) {
		c.c.add(reasonTooMany)
		return fmt.Errorf("more than %d tunnels", maxTunnels)
	}
	c.tellLocked(p, c.peers[dst], "add tunnel")
	c.tellLocked(c.peers[dst], p, "add tunnel")
	return nil
}

// removeTunnel ends what the peer asked for. The two forget each other unless
// the other one asked for a tunnel too.
func (c *Coordinator) removeTunnel(p *peer, dst uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.gone || !c.tunnels.has(p.id, dst) {
		return
	}
	c.tunnels.remove(p.id, dst)
	if c.tunnels.partners(p.id, dst) {
		return
	}
	const kind = tailnetpb.CoordinateResponse_PeerUpdate_DISCONNECTED
	c.forgetLocked(p, dst, kind, "remove tunnel")
	c.forgetLocked(c.peers[dst], p.id, kind, "remove tunnel")
}

// ready passes on that a peer is ready for the handshake with another.
func (c *Coordinator) ready(p *peer, dst uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.gone {
		return
	}
	if !c.tunnels.partners(p.id, dst) {
		c.c.add(reasonNoTunnel)
		c.sendLocked(p, &tailnetpb.CoordinateResponse{Error: fmt.Sprintf("ready for handshake error: no tunnel with %s", dst)})
		return
	}
	if to := c.peers[dst]; to != nil {
		c.sendLocked(to, &tailnetpb.CoordinateResponse{PeerUpdates: []*tailnetpb.CoordinateResponse_PeerUpdate{
			{Id: p.id[:], Kind: tailnetpb.CoordinateResponse_PeerUpdate_READY_FOR_HANDSHAKE},
		}})
	}
}
