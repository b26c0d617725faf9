package stats

import (
	"net/netip"
	"sync"
)

// maxFlows bounds the flows of the tailnet that are told apart at a time.
const maxFlows = 2048

// flowShards spreads the flows, so that packets of different peers do not wait
// for each other.
const flowShards = 16

// flowKey names a flow of packets.
type flowKey struct {
	proto         uint8
	local, remote netip.AddrPort
}

// flowShard is a part of the flows of the tailnet.
type flowShard struct {
	mu sync.Mutex
	// last is the flow of the last packet, which most likely is that of the next.
	lastKey flowKey
	last    *Flow
	flows   map[flowKey]*Flow
	_       [24]byte
}

// Packets counts IP packets that the tailnet exchanged with a peer over the
// given path; bytes are those of whole packets. It does not allocate, but for
// the first packet of a flow.
func (t *Tally) Packets(p Path, proto uint8, local, remote netip.AddrPort, packets, bytes int, received bool) {
	path := t.paths[p]
	if received {
		path.rx.Add(uint64(bytes))
		path.rxPackets.Add(uint64(packets))
	} else {
		path.tx.Add(uint64(bytes))
		path.txPackets.Add(uint64(packets))
	}
	key := flowKey{proto, local, remote}
	s := &t.shards[(uint(remote.Port())^uint(local.Port()))%flowShards]
	s.mu.Lock()
	f := s.last
	if s.lastKey != key || f == nil {
		f = s.flows[key]
	}
	if f != nil {
		s.last, s.lastKey = f, key
		s.mu.Unlock()
		f.mark()
		return
	}
	full := len(s.flows) >= maxFlows/flowShards
	if !full {
		f = &Flow{t: t, path: path, proto: protocolName(proto)}
		s.flows[key], s.last, s.lastKey = f, f, key
	}
	s.mu.Unlock()
	if full {
		t.Drop(DropFlows, 1)
		return
	}
	f.mark()
}

// activePackets adds the flows of the tailnet with packets in the current
// window, and forgets those without. It is called when a window is cut.
func (t *Tally) activePackets(byProto map[string]int64) {
	w := t.window.Load()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for key, f := range s.flows {
			switch {
			case f.seen.Load() == w:
				byProto[f.proto]++
			default:
				delete(s.flows, key)
				if s.last == f {
					s.last = nil
				}
			}
		}
		s.mu.Unlock()
	}
}

// protocolName is the name that the contract gives a protocol (agent-api.md
// section 8.2).
func protocolName(proto uint8) string {
	switch proto {
	case 0:
		return "Unknown"
	case 1:
		return "ICMPv4"
	case 2:
		return "IGMP"
	case 6:
		return "TCP"
	case 17:
		return "UDP"
	case 33:
		return "DCCP"
	case 47:
		return "GRE"
	case 58:
		return "ICMPv6"
	case 99:
		return "TSMP"
	case 132:
		return "SCTP"
	case 255:
		return "Frag"
	}
	return "IPProto-" + itoa(proto)
}

func itoa(n uint8) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}
