package stats

import "sync/atomic"

// pathBytes are the bytes of one path; both directions are on cache lines of
// their own, because they are written by different goroutines all the time.
type pathBytes struct {
	rx atomic.Uint64
	_  [56]byte
	tx atomic.Uint64
	_  [56]byte
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
	return byProto
}

const (
	receiveBytes  = "agent_network_receive_bytes_total"
	transmitBytes = "agent_network_transmit_bytes_total"
)

// appendBytes adds the byte series, sorted by path.
func (t *Tally) appendBytes(dst []Series) []Series {
	for _, p := range []Path{PathTCP, PathUnix} {
		label := []Label{{"path", string(p)}}
		dst = append(dst,
			Series{Name: receiveBytes, Labels: label, Value: float64(t.paths[p].rx.Load())},
			Series{Name: transmitBytes, Labels: label, Value: float64(t.paths[p].tx.Load())})
	}
	return dst
}

func (t *Tally) restoreBytes(s Series) bool {
	if len(s.Labels) != 1 || s.Labels[0].Name != "path" || s.Value < 0 {
		return false
	}
	p, ok := t.paths[Path(s.Labels[0].Value)]
	if !ok {
		return false
	}
	switch s.Name {
	case receiveBytes:
		p.rx.Add(uint64(s.Value))
	case transmitBytes:
		p.tx.Add(uint64(s.Value))
	default:
		return false
	}
	return true
}

// bytes returns the totals over all paths.
func (t *Tally) bytes() (rx, tx uint64) {
	for _, p := range t.paths {
		rx += p.rx.Load()
		tx += p.tx.Load()
	}
	return rx, tx
}
