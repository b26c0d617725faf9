package tailnet

import (
	"net/netip"
	"sync"

	"tailscale.com/control/controlknobs"
)

// wireMTU returns what a packet of the tunnel needs on the way to an address: 1280
// bytes, 32 of WireGuard, 8 of UDP, 20 of IPv4 or 40 of IPv6.
func wireMTU(remote netip.Addr) int {
	if remote.Unmap().Is4() {
		return 1280 + 32 + 8 + 20
	}
	return 1280 + 32 + 8 + 40
}

// width keeps bursts whole where a path is too narrow for the tunnel's packets.
// The system would cut bursts into packets (UDP segmentation offload), but refuses
// to where the packets do not fit either, and the burst is lost; a single packet it
// sends in fragments. On other paths the offload saves half of the CPU.
type width struct {
	n     *Node
	knobs controlknobs.Knobs

	// mu guards closed: nothing is started after it is set.
	mu     sync.Mutex
	closed bool
	work   sync.WaitGroup
}

// check looks at the path to an address. It may be called by anyone at any time
// and does not wait for the engine.
func (w *width) check(remote netip.AddrPort) {
	if w.knobs.DisableUDPGSO.Load() {
		return
	}
	mtu, err := pathMTU(remote)
	want := wireMTU(remote.Addr())
	if err != nil || mtu >= want {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.knobs.DisableUDPGSO.Swap(true) {
		return
	}
	w.n.log.Info("a direct path is too narrow for segmentation offload, which is off from now on", "remote", remote.String(), "mtu", mtu, "wanted", want)
	w.work.Go(w.n.sock.Rebind)
}

func (w *width) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.work.Wait()
}
