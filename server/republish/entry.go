package republish

import (
	"time"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/ledger"
)

// entry is what is shown of one agent's reports. It is immutable, and keeps no
// more of a report than what its row needs to change by itself.
type entry struct {
	key agentKey
	row *exposition.Row
	// arrived is when the newest report came, expires when all of it ends.
	arrived, expires instant
	// windows are those that the byte gauges add up.
	windows []window
}

// window is what the byte gauges need of a report window with traffic.
type window struct {
	leaves instant // when the gauges do not count it any more
	rx, tx uint64
}

// The families that add windows up.
const (
	rxBytes = "coderd_agentstats_rx_bytes"
	txBytes = "coderd_agentstats_tx_bytes"
)

// grace is added to two report intervals before a silent agent's series end.
const grace = 10 * time.Second

// lifetime is how long a report is shown.
func lifetime(l ledger.Latest) instant { return instant(2*l.Interval + grace) }

// instant returns a moment of this process as the publisher counts time.
func (p *Publisher) instant(t time.Time) instant { return instant(t.Sub(p.started)) }

func (p *Publisher) now() instant { return p.instant(time.Now()) }

// wall is what stored times are compared with.
func (p *Publisher) wall() time.Time { return p.o.Now().Round(0) }

// windows returns those of an agent's recent windows that count now. When they ended
// is known from how long before the newest report that was, by the clock of then.
func (p *Publisher) windows(l ledger.Latest, arrived instant) (counted []window) {
	now := p.now()
	for _, w := range l.Recent {
		leaves := arrived - instant(max(0, l.Arrival.Sub(w.End))) + instant(p.o.ByteWindow)
		if now < leaves && (w.RxBytes > 0 || w.TxBytes > 0) {
			counted = append(counted, window{leaves, w.RxBytes, w.TxBytes})
		}
	}
	return counted
}

func sums(windows []window) (rx, tx float64) {
	var r, t uint64
	for _, w := range windows {
		r, t = r+w.rx, t+w.tx
	}
	return float64(r), float64(t)
}

// due is when the entry changes by itself: a window leaves, or all ends.
func (e *entry) due() instant {
	due := e.expires
	for _, w := range e.windows {
		due = min(due, w.leaves)
	}
	return due
}

// at returns the entry as it is at an instant, nil if it has ended. Only the byte
// gauges change.
func (e *entry) at(now instant, t *exposition.Table) *entry {
	if now >= e.expires {
		return nil
	}
	fresh := &entry{key: e.key, arrived: e.arrived, expires: e.expires}
	for _, w := range e.windows {
		if now < w.leaves {
			fresh.windows = append(fresh.windows, w)
		}
	}
	rx, tx := sums(fresh.windows)
	fresh.row = e.row.With(t, exposition.Value{Family: rxBytes, Value: rx}, exposition.Value{Family: txBytes, Value: tx})
	return fresh
}
