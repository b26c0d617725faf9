package stats

import (
	"cmp"
	"slices"
	"time"

	"github.com/worktally/worktally/internal/appname"
)

// maxAppNames bounds the names that clients can invent; the rest is "unknown".
const maxAppNames = 64

// OpenSessions is how many sessions of one application are open.
type OpenSessions struct {
	App    string
	Family appname.Family
	Count  int64
}

// Snapshot is the state of the tally at one instant.
type Snapshot struct {
	Totals []Series
	// Gauges: sessions are those of this instant, connections those of the last
	// closed window.
	Gauges Gauges
	// RxBytes and TxBytes are those of the windows that ended within the byte
	// window before now.
	RxBytes, TxBytes uint64
	// WindowLength is the length of the last closed window, 0 before the first.
	WindowLength time.Duration
}

// Snapshot returns the state now. The caller owns it.
func (t *Tally) Snapshot() Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recent = t.trimmedLocked(time.Now())
	s := Snapshot{Totals: t.totalsLocked(), Gauges: t.gaugesLocked(), WindowLength: t.last.length}
	for _, w := range t.recent {
		s.RxBytes += w.rx
		s.TxBytes += w.tx
	}
	return s
}

// openSessionsLocked returns the open sessions by application, sorted by name.
func (t *Tally) openSessionsLocked() []OpenSessions {
	byKind := make(map[Kind]int64)
	for r := range t.open {
		k := r.kind
		if _, known := byKind[k]; !known && len(byKind) >= maxAppNames && k.Family == appname.Unknown {
			k = kindOf(appname.UnknownName)
		}
		byKind[k]++
	}
	out := make([]OpenSessions, 0, len(byKind))
	for k, n := range byKind {
		out = append(out, OpenSessions{App: k.App, Family: k.Family, Count: n})
	}
	slices.SortFunc(out, func(a, b OpenSessions) int { return cmp.Compare(a.App, b.App) })
	return out
}

// ByGauge sums open sessions by the compatible gauge that counts them. Every
// gauge has an entry.
func ByGauge(open []OpenSessions) map[appname.Family]int64 {
	m := make(map[appname.Family]int64, 4)
	for _, f := range gaugeFamilies() {
		m[f] = 0
	}
	for _, o := range open {
		m[appname.Gauge(o.Family)] += o.Count
	}
	return m
}
