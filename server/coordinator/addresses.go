package coordinator

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/worktally/worktally/wire/tailnetpb"
)

// holdLocked makes the addresses of a node its peer's. An address belongs to one
// peer: who announces somebody else's could take its connections. An agent gets
// those that are derived from its id in any case; a client gets its own back from
// its former self, whose end was not noticed yet.
func (c *Coordinator) holdLocked(p *peer, node *tailnetpb.Node) error {
	addresses := singleAddresses(node)
	client, isClient := p.auth.(ClientAuth)
	for _, a := range addresses {
		holder := c.holders[a]
		if holder == nil || holder == p {
			continue
		}
		former, wasClient := holder.auth.(ClientAuth)
		switch {
		case !isClient && wasClient:
			c.c.add(reasonUnauthorized)
			c.retireLocked(holder, errNotItsOwn)
		case !isClient: // nobody chooses the ids of agents
		case wasClient && former == client && bytes.Equal(holder.node.GetKey(), node.GetKey()):
			c.retireLocked(holder, errReplaced)
		default:
			return fmt.Errorf("address %s is another peer's", a)
		}
	}
	c.releaseLocked(p)
	p.holds = addresses
	for _, a := range addresses {
		c.holders[a] = p
	}
	return nil
}

// retireLocked ends a peer that has lost its address.
func (c *Coordinator) retireLocked(p *peer, why error) {
	c.leaveLocked(p, tailnetpb.CoordinateResponse_PeerUpdate_LOST, "lost", "")
	p.end(why)
}

// releaseLocked gives up a peer's addresses.
func (c *Coordinator) releaseLocked(p *peer) {
	for _, a := range p.holds {
		if c.holders[a] == p {
			delete(c.holders, a)
		}
	}
	p.holds = nil
}

// singleAddresses are the addresses of a node that only one peer can have. The one
// that all agents of old have is not among them.
func singleAddresses(node *tailnetpb.Node) []netip.Addr {
	legacy := netip.MustParseAddr(legacyAgentAddress)
	var addresses []netip.Addr
	for _, text := range node.GetAddresses() {
		if prefix, err := netip.ParsePrefix(text); err == nil && prefix.Addr() != legacy {
			addresses = append(addresses, prefix.Addr())
		}
	}
	return addresses
}
