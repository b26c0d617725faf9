//go:build !linux

package tailnet

import "net/netip"

// pathMTU: elsewhere there is no offload that would have to be kept off.
func pathMTU(remote netip.AddrPort) (int, error) { return wireMTU(remote.Addr()), nil }
