package agent

import (
	"strings"

	"github.com/worktally/worktally/agent/agentnet"
)

// netcheck translates what the node knows about its network for clients.
func (n *network) netcheck() agentnet.NetInfo {
	i := n.node.NetInfo()
	info := agentnet.NetInfo{
		MappingVariesByDestIP: i.MappingVariesByDestIP, OSHasIPv6: i.OSHasIPv6, WorkingIPv6: i.WorkingIPv6,
		PreferredDERP: i.Home, DERPLatency: i.Latency, UDP: len(i.Public) > 0,
	}
	if info.UDP {
		info.WorkingUDP = &info.UDP
	}
	for _, p := range i.Public {
		if p.Addr().Is4() {
			info.GlobalV4, info.IPv4 = p.String(), true
		} else {
			info.GlobalV6, info.IPv6 = p.String(), true
		}
	}
	for relay := range i.Latency {
		info.IPv4 = info.IPv4 || strings.HasSuffix(relay, "-v4")
		info.IPv6 = info.IPv6 || strings.HasSuffix(relay, "-v6")
	}
	return info
}
