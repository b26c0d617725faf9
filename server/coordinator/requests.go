package coordinator

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// Auth says what a peer may ask for.
type Auth interface {
	// Check returns why the request is refused, nil if it is not.
	Check(r *tailnetpb.CoordinateRequest) error
}

// errDone: the peer said goodbye.
var errDone = errors.New("graceful disconnect")

// handle carries out one request of a peer. An error ends its stream.
func (c *Coordinator) handle(p *peer, auth Auth, r *tailnetpb.CoordinateRequest) error {
	if err := auth.Check(r); err != nil {
		c.c.add(reasonUnauthorized)
		return fmt.Errorf("authorization: %w", err)
	}
	if u := r.GetUpdateSelf(); u != nil {
		if u.GetNode() == nil {
			c.c.add(reasonMalformed)
			return errors.New("update_self without a node")
		}
		c.update(p, u.GetNode())
	}
	if t := r.GetAddTunnel(); t != nil {
		id, err := wire.UUID("add_tunnel.id", t.GetId())
		if err != nil {
			c.c.add(reasonMalformed)
			return err
		}
		c.addTunnel(p, id)
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

func (c *Coordinator) update(p *peer, node *tailnetpb.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.node = node
	for other := range c.partnersLocked(p.id) {
		c.tellLocked(c.peers[other], p, "node update")
	}
}

func (c *Coordinator) addTunnel(p *peer, dst uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tunnels[tunnel{p.id, dst}] = struct{}{}
	c.tellLocked(p, c.peers[dst], "add tunnel")
	c.tellLocked(c.peers[dst], p, "add tunnel")
}

func (c *Coordinator) removeTunnel(p *peer, dst uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tunnels, tunnel{p.id, dst})
	const kind = tailnetpb.CoordinateResponse_PeerUpdate_DISCONNECTED
	c.forgetLocked(p, dst, kind, "remove tunnel")
	c.forgetLocked(c.peers[dst], p.id, kind, "remove tunnel")
}

// ready passes on that a peer is ready for the handshake with another.
func (c *Coordinator) ready(p *peer, dst uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, partners := c.partnersLocked(p.id)[dst]; !partners {
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

// AgentAuth lets an agent announce its own two addresses and open no tunnel
// (contract agent-api.md section 5.4).
type AgentAuth struct{ AgentID uuid.UUID }

// Check implements Auth.
func (a AgentAuth) Check(r *tailnetpb.CoordinateRequest) error {
	if r.GetAddTunnel() != nil {
		return errors.New("agents may not open tunnels")
	}
	node := r.GetUpdateSelf().GetNode()
	for _, list := range [][]string{node.GetAddresses(), node.GetAllowedIps()} {
		for _, text := range list {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				return fmt.Errorf("address %q: %w", text, err)
			}
			if prefix.Bits() != 128 || !a.owns(prefix.Addr()) {
				return fmt.Errorf("address %s is not the agent's", prefix)
			}
		}
	}
	return nil
}

// legacyAgentAddress is what agents of old announced.
const legacyAgentAddress = "fd7a:115c:a1e0:49d6:b259:b7ac:b1b2:48f4"

func (a AgentAuth) owns(addr netip.Addr) bool {
	return addr == derived(primaryPrefix(), a.AgentID) || addr == derived(secondaryPrefix(), a.AgentID) ||
		addr == netip.MustParseAddr(legacyAgentAddress)
}

func primaryPrefix() [6]byte   { return [6]byte{0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0} }
func secondaryPrefix() [6]byte { return [6]byte{0xfd, 0x60, 0x62, 0x7a, 0xa4, 0x2b} }

// derived is the agent's address below a prefix (contract tailnet.md section 1).
func derived(prefix [6]byte, id uuid.UUID) netip.Addr {
	b := [16]byte(id)
	copy(b[:], prefix[:])
	return netip.AddrFrom16(b)
}
