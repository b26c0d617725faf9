package wiretest

import (
	"context"
	"maps"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// WindowID names a report window.
type WindowID struct {
	Epoch    string // 16 raw bytes
	Sequence uint64
}

// Ledger is a model of how a server keeps the books of one agent. Its methods
// are safe for concurrent use.
type Ledger struct {
	mu       sync.Mutex
	stock    bool
	interval time.Duration
	refuse   func(*worktallypb.Window) string
	silent   bool
	epochs   map[string]*epoch
	begun    int // epochs so far
	windows  map[WindowID]*worktallypb.Window
	reports  []*agentpb.Stats
}

// epoch is what is known of an epoch.
type epoch struct {
	agent    string
	ordinal  int // the higher is the newer
	closed   bool
	sequence uint64
	totals   map[string]float64
}

// NewLedger returns the books of a Worktally server that asks for a report every
// 30 s.
func NewLedger() *Ledger {
	return &Ledger{interval: 30 * time.Second, epochs: make(map[string]*epoch), windows: make(map[WindowID]*worktallypb.Window)}
}

// SetStock lets the server speak the extension, or not, from the next call on.
func (l *Ledger) SetStock(stock bool) { l.set(func() { l.stock = stock }) }

// SetInterval sets the interval that is asked for.
func (l *Ledger) SetInterval(d time.Duration) { l.set(func() { l.interval = d }) }

// SetRefuse lets f say why a window is refused, "" if it is not. It is asked
// about windows only that would change something.
func (l *Ledger) SetRefuse(f func(*worktallypb.Window) string) { l.set(func() { l.refuse = f }) }

// SetSilent lets the server answer reports without taking a window in.
func (l *Ledger) SetSilent(silent bool) { l.set(func() { l.silent = silent }) }

func (l *Ledger) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// UpdateStats answers a report.
func (l *Ledger) UpdateStats(_ context.Context, r *agentpb.UpdateStatsRequest) (*agentpb.UpdateStatsResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	resp := &agentpb.UpdateStatsResponse{ReportInterval: durationpb.New(l.interval)}
	ext := r.GetWorktally()
	if l.stock || ext == nil {
		if r.GetStats() != nil {
			l.reports = append(l.reports, r.GetStats())
		}
		return resp, nil
	}
	resp.Worktally = &worktallypb.ReportResponse{Protocol: 1}
	if r.GetStats() == nil {
		if e := l.epochs[string(ext.GetEpoch())]; e != nil {
			resp.Worktally.LastSequence = e.sequence
		}
		return resp, nil
	}
	if l.silent {
		return resp, nil
	}
	for _, w := range ext.GetWindows() {
		resp.Worktally.Acknowledged = append(resp.Worktally.Acknowledged,
			&worktallypb.Acknowledgement{Epoch: w.GetEpoch(), Sequence: w.GetSequence(), Refused: l.take(w)})
	}
	if ext.GetNoOlderEpochPending() && len(ext.GetWindows()) > 0 {
		l.closeBefore(ext.GetWindows()[0].GetEpoch())
	}
	return resp, nil
}

// closeBefore refuses what comes of the agent's epochs before this one from now on.
func (l *Ledger) closeBefore(id []byte) {
	current := l.epochs[string(id)]
	for _, e := range l.epochs {
		e.closed = e.closed || current != nil && e.agent == current.agent && e.ordinal < current.ordinal
	}
}

// take commits a window, or says why not.
func (l *Ledger) take(w *worktallypb.Window) (refused string) {
	id := WindowID{string(w.GetEpoch()), w.GetSequence()}
	e := l.epochs[id.Epoch]
	if e == nil {
		e = &epoch{agent: w.GetAgentName(), ordinal: l.begun}
	}
	if e.closed {
		return "closed_epoch"
	}
	ahead := len(w.GetTotals()) > 0 && id.Sequence > e.sequence
	if l.windows[id] != nil && !ahead {
		return ""
	}
	if l.refuse != nil {
		if refused := l.refuse(w); refused != "" {
			return refused
		}
	}
	if ahead {
		totals := make(map[string]float64, len(w.GetTotals()))
		for _, s := range w.GetTotals() {
			totals[SeriesKey(s)] = s.GetValue()
		}
		for k, v := range e.totals {
			if totals[k] < v {
				return "totals_fell"
			}
		}
		if l.epochs[id.Epoch] == nil {
			l.begun++
		}
		e.sequence, e.totals = id.Sequence, totals
		l.epochs[id.Epoch] = e
	}
	l.windows[id] = w
	return ""
}

// SeriesKey names a series: its name and labels, joined by the byte 0xff.
func SeriesKey(s *worktallypb.Series) string {
	return strings.Join(append([]string{s.GetName()}, s.GetLabels()...), "\xff")
}

// Totals returns the sums over all epochs, by series key; zeros are left out.
func (l *Ledger) Totals() map[string]float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := make(map[string]float64)
	for _, e := range l.epochs {
		for k, v := range e.totals {
			sum[k] += v
		}
	}
	maps.DeleteFunc(sum, func(_ string, v float64) bool { return v == 0 })
	return sum
}

// Epochs returns how many epochs there are.
func (l *Ledger) Epochs() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.epochs)
}

// Windows returns the committed windows.
func (l *Ledger) Windows() map[WindowID]*worktallypb.Window {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.windows)
}

// Reports returns the stock reports.
func (l *Ledger) Reports() []*agentpb.Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*agentpb.Stats(nil), l.reports...)
}
