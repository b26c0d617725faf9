package tailnet

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"

	"github.com/google/uuid"
)

// The two /48 prefixes below which peers have their addresses (contract
// tailnet.md section 1).
func primaryPrefix() [6]byte   { return [6]byte{0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0} }
func secondaryPrefix() [6]byte { return [6]byte{0xfd, 0x60, 0x62, 0x7a, 0xa4, 0x2b} }

// Primary returns the address under which a peer is reached.
func Primary(id uuid.UUID) netip.Addr { return derived(primaryPrefix(), id) }

// Secondary returns the address that a desktop client uses for an agent.
func Secondary(id uuid.UUID) netip.Addr { return derived(secondaryPrefix(), id) }

func derived(prefix [6]byte, id uuid.UUID) netip.Addr {
	b := [16]byte(id)
	copy(b[:], prefix[:])
	return netip.AddrFrom16(b)
}

// RandomPrimary returns an address for a peer without an identity of its own.
func RandomPrimary() netip.Addr { return Primary(uuid.New()) }

// agentNodeID is the number under which an agent announces its node (contract
// agent-api.md section 5.3).
func agentNodeID(id uuid.UUID) int64 {
	n := int64(binary.BigEndian.Uint64(id[8:]))
	if n < 0 {
		n = -n
	}
	return n
}

// randomNodeID is that of a client.
func randomNodeID() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return int64(binary.BigEndian.Uint64(b[:]) >> 1)
}
