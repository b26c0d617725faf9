package stats

import "time"

// Window is one closed report window.
type Window struct {
	// Start and End carry a monotonic reading; only their difference and age
	// mean something.
	Start, End time.Time
	// Totals are cumulative, at End.
	Totals []Series
	Gauges Gauges
	// RxBytes and TxBytes are those of this window alone, over all paths.
	RxBytes, TxBytes uint64
}

// Gauges is what was true at the end of a window.
type Gauges struct {
	Connections        int64
	ConnectionsByProto map[string]int64
	Peers              Peers
	Sessions           []OpenSessions
	Startup            *Startup
}

type windowBytes struct {
	end    time.Time
	rx, tx uint64
}

type lastWindow struct {
	length  time.Duration
	byProto map[string]int64
}

// Peek returns what CutWindow would, with the connections of the last closed window,
// and closes nothing.
func (t *Tally) Peek() Window {
	t.mu.Lock()
	defer t.mu.Unlock()
	w, _, _ := t.windowLocked(time.Now())
	w.Gauges = t.gaugesLocked()
	return w
}

// windowLocked returns the window so far, and the byte totals.
func (t *Tally) windowLocked(now time.Time) (w Window, rx, tx uint64) {
	w = Window{Start: t.windowStart, End: now, Totals: t.totalsLocked()}
	rx, tx = sumBytes(w.Totals)
	w.RxBytes, w.TxBytes = rx-t.cutRx, tx-t.cutTx
	return w, rx, tx
}

// CutWindow closes the current window and starts the next at the same instant.
func (t *Tally) CutWindow() Window {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	byProto := t.activeLocked()
	w, rx, tx := t.windowLocked(now)
	t.cutRx, t.cutTx = rx, tx
	t.recent = append(t.trimmedLocked(now), windowBytes{now, w.RxBytes, w.TxBytes})
	t.last = lastWindow{length: now.Sub(t.windowStart), byProto: byProto}
	t.windowStart = now
	clear(t.endedFlows)
	t.window.Add(1)
	w.Gauges = t.gaugesLocked()
	return w
}

// sumBytes takes the byte totals from the very snapshot that is reported, so
// that the windows' bytes add up to the totals whatever is counted meanwhile.
func sumBytes(totals []Series) (rx, tx uint64) {
	for _, s := range totals {
		switch s.Name {
		case receiveBytes:
			rx += uint64(s.Value)
		case transmitBytes:
			tx += uint64(s.Value)
		}
	}
	return rx, tx
}

// trimmedLocked drops the windows that ended before the byte gauges' span. The
// slice is bounded by span / shortest window; a window of no length is merged
// into nothing by the reporter, which cuts at most one a second.
func (t *Tally) trimmedLocked(now time.Time) []windowBytes {
	i := 0
	for i < len(t.recent) && now.Sub(t.recent[i].end) >= t.byteWindow {
		i++
	}
	return t.recent[i:]
}

func (t *Tally) totalsLocked() []Series {
	dst := make([]Series, 0, len(t.counters.list)+2*len(t.paths))
	return t.counters.appendTo(t.appendBytes(dst))
}

func (t *Tally) gaugesLocked() Gauges {
	g := Gauges{
		ConnectionsByProto: t.last.byProto,
		Peers:              t.peers,
		Sessions:           t.openSessionsLocked(),
		Startup:            t.startup,
	}
	for _, n := range t.last.byProto {
		g.Connections += n
	}
	return g
}
