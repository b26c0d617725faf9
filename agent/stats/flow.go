package stats

import "sync/atomic"

// pathBytes are the bytes of one path; both directions are on cache lines of
// their own, because they are written by different goroutines all the time.
type pathBytes struct {
	rx, rxPackets atomic.Uint64
	_             [48]byte
	tx, txPackets atomic.Uint64
	_             [48]byte
}

// Flow is one connection whose bytes are counted. Received and Sent do not
// allocate and take no lock.
type Flow struct {
	t     *Tally
	path  *pathBytes
	proto string
	// seen is the window in which traffic was last seen.
	seen atomic.Uint64
}

// OpenFlow starts counting a connection of the given protocol ("TCP"). An
// unknown path is a mistake of ours.
func (t *Tally) OpenFlow(p Path, proto string) *Flow {
	path, ok := t.paths[p]
	if !ok {
		panic("BUG: stats: unknown path " + string(p))
	}
	f := &Flow{t: t, path: path, proto: proto}
	t.mu.Lock()
	t.flows[f] = struct{}{}
	t.mu.Unlock()
	return f
}

// Received counts n bytes from the peer.
func (f *Flow) Received(n int) {
	if n > 0 {
		f.path.rx.Add(uint64(n))
		f.mark()
	}
}

// Sent counts n bytes to the peer.
func (f *Flow) Sent(n int) {
	if n > 0 {
		f.path.tx.Add(uint64(n))
		f.mark()
	}
}

func (f *Flow) mark() {
	// Load first: the store would make all cores fight for the line.
	if w := f.t.window.Load(); f.seen.Load() != w {
		f.seen.Store(w)
	}
}

// Close ends the flow. Its bytes stay counted. It may be called more than once.
func (f *Flow) Close() {
	t := f.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.flows[f]; !ok {
		return
	}
	delete(t.flows, f)
	if f.seen.Load() == t.window.Load() {
		t.endedFlows[f.proto]++
	}
}

// activeLocked counts the flows with traffic in the current window by protocol.
func (t *Tally) activeLocked() map[string]int64 {
	byProto := make(map[string]int64, len(t.endedFlows))
	for proto, n := range t.endedFlows {
		byProto[proto] = n
	}
	w := t.window.Load()
	for f := range t.flows {
		if f.seen.Load() == w {
			byProto[f.proto]++
		}
	}
	t.activePackets(byProto)
	return byProto
}

const (
	receiveBytes    = "agent_network_receive_bytes_total"
	transmitBytes   = "agent_network_transmit_bytes_total"
	receivePackets  = "agent_network_receive_packets_total"
	transmitPackets = "agent_network_transmit_packets_total"
)

// pathSeries is a counter of a path under its name.
type pathSeries struct {
	name string
	n    *atomic.Uint64
}

// series returns the counters of a path, always in the same order: whoever compares
// two readings goes by it. Only the tailnet has packets.
func (p *pathBytes) series(path Path) []pathSeries {
	list := []pathSeries{{receiveBytes, &p.rx}, {transmitBytes, &p.tx}, {receivePackets, &p.rxPackets}, {transmitPackets, &p.txPackets}}
	if path != PathP2P && path != PathDERP {
		return list[:2]
	}
	return list
}

// appendBytes adds the series of all paths.
func (t *Tally) appendBytes(dst []Series) []Series {
	for _, path := range paths() {
		label := []Label{{"path", string(path)}}
		for _, s := range t.paths[path].series(path) {
			dst = append(dst, Series{Name: s.name, Labels: label, Value: float64(s.n.Load())})
		}
	}
	return dst
}

func (t *Tally) restoreBytes(s Series) bool {
	if len(s.Labels) != 1 || s.Labels[0].Name != "path" || s.Value < 0 {
		return false
	}
	path := Path(s.Labels[0].Value)
	p, ok := t.paths[path]
	if !ok {
		return false
	}
	for _, own := range p.series(path) {
		if own.name == s.Name {
			own.n.Add(uint64(s.Value))
			return true
		}
	}
	return false
}
