package tailnet

import (
	"maps"
	"net/netip"

	"tailscale.com/tailcfg"
	"tailscale.com/types/opt"
)

// NetInfo is what a node has found out about the network around it. A nil value is
// unknown.
type NetInfo struct {
	MappingVariesByDestIP, OSHasIPv6, WorkingIPv6 *bool
	// Public are the addresses under which STUN servers saw the node. Without one, UDP
	// to the outside is not known to work.
	Public []netip.AddrPort
	// Home is the region of the home relay, 0 without one.
	Home int
	// Latency is the round trip to relays in seconds, by region and address family
	// such as "999-v4".
	Latency map[string]float64
}

// NetInfo returns what is known now.
func (n *Node) NetInfo() NetInfo {
	p := n.self
	p.mu.Lock()
	defer p.mu.Unlock()
	info := NetInfo{Home: p.home, Latency: maps.Clone(p.latency), Public: p.public}
	if p.info != nil {
		info.MappingVariesByDestIP = known(p.info.MappingVariesByDestIP)
		info.OSHasIPv6, info.WorkingIPv6 = known(p.info.OSHasIPv6), known(p.info.WorkingIPv6)
	}
	return info
}

func known(b opt.Bool) *bool {
	v, ok := b.Get()
	if !ok {
		return nil
	}
	return &v
}

// publicAddresses are those that a STUN server has seen. The node's own STUN answer
// on the loopback is none of them.
func publicAddresses(endpoints []tailcfg.Endpoint) []netip.AddrPort {
	var public []netip.AddrPort
	for _, e := range endpoints {
		if (e.Type == tailcfg.EndpointSTUN || e.Type == tailcfg.EndpointSTUN4LocalPort) && !e.Addr.Addr().IsLoopback() {
			public = append(public, e.Addr)
		}
	}
	return public
}
