package republish

import (
	"time"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/ledger"
)

// entry is what is shown of one agent's reports. It is immutable, and keeps no
// more of a report than what its row needs to change by itself.
type entry struct {
	key     agentKey
	row     *exposition.Row
	expires instant
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

func expiry(l ledger.Latest) time.Time { return l.Arrival.Add(2*l.Interval + grace) }

// instant returns a moment as the publisher counts time.
func (p *Publisher) instant(t time.Time) instant { return instant(t.Sub(p.started)) }

// windows returns those of recent windows that count at an instant.
func (p *Publisher) windows(recent []ledger.RecentWindow, now instant) (counted []window) {
	for _, w := range recent {
		leaves := p.instant(w.End.Add(p.o.ByteWindow))
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
	fresh := &entry{key: e.key, expires: e.expires}
	for _, w := range e.windows {
		if now < w.leaves {
			fresh.windows = append(fresh.windows, w)
		}
	}
	rx, tx := sums(fresh.windows)
	fresh.row = e.row.With(t, exposition.Value{Family: rxBytes, Value: rx}, exposition.Value{Family: txBytes, Value: tx})
	return fresh
}
