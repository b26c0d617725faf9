package coordinator

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// Auth says what a peer may ask for (contract agent-api.md section 5.4).
type Auth interface {
	// Check returns why the request is refused, nil if it is not.
	Check(r *tailnetpb.CoordinateRequest) error
}

// AgentAuth lets an agent announce its own two addresses and open no tunnel.
type AgentAuth struct{ AgentID uuid.UUID }

// Check implements Auth.
func (a AgentAuth) Check(r *tailnetpb.CoordinateRequest) error {
	if r.GetAddTunnel() != nil {
		return errors.New("agents may not open tunnels")
	}
	return checkAddresses(r, func(addr netip.Addr) error {
		if !a.owns(addr) {
			return fmt.Errorf("address %s is not the agent's", addr)
		}
		return nil
	})
}

// ClientAuth lets a person's client open a tunnel to one agent and announce one
// address that is not the agent's. That it is nobody else's either is the
// coordinator's business.
type ClientAuth struct {
	AgentID uuid.UUID
	// UserID is the person. A client that has lost its session may take over from
	// its former self.
	UserID uuid.UUID
}

// Check implements Auth.
func (a ClientAuth) Check(r *tailnetpb.CoordinateRequest) error {
	if len(r.GetReadyForHandshake()) > 0 {
		return errors.New("clients may not send ready_for_handshake")
	}
	if t := r.GetAddTunnel(); t != nil {
		// A malformed id is told as such by the coordinator.
		if id, err := wire.UUID("add_tunnel.id", t.GetId()); err == nil && id != a.AgentID {
			return fmt.Errorf("no tunnel to %s is allowed", id)
		}
	}
	err := checkAddresses(r, func(addr netip.Addr) error {
		// Who has the agent's address could take its connections.
		if (AgentAuth{a.AgentID}).owns(addr) {
			return fmt.Errorf("address %s is the agent's", addr)
		}
		if b := addr.As16(); [6]byte(b[:]) != primaryPrefix() {
			return fmt.Errorf("address %s is not one that clients have", addr)
		}
		return nil
	})
	node := r.GetUpdateSelf().GetNode()
	if err != nil || node == nil {
		return err
	}
	if len(node.GetAddresses()) != 1 || !slices.Equal(node.GetAddresses(), node.GetAllowedIps()) {
		return fmt.Errorf("addresses %q and allowed_ips %q are not one and the same address", node.GetAddresses(), node.GetAllowedIps())
	}
	return nil
}

// checkAddresses checks what a node announces. Peers route by allowed_ips, so
// these are checked like the addresses, which stock peers send twice.
func checkAddresses(r *tailnetpb.CoordinateRequest, check func(netip.Addr) error) error {
	node := r.GetUpdateSelf().GetNode()
	for _, list := range [][]string{node.GetAddresses(), node.GetAllowedIps()} {
		for _, text := range list {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				return fmt.Errorf("address %q: %w", text, err)
			}
			if prefix.Bits() != 128 {
				return fmt.Errorf("address %s is not a single one", prefix)
			}
			if err := check(prefix.Addr()); err != nil {
				return err
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
