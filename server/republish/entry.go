package republish

import (
	"errors"
	"time"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/appname"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/wire/worktallypb"
)

// entry is what is shown of one agent's reports. It is immutable.
type entry struct {
	key     agentKey
	names   exposition.Names
	latest  ledger.Latest
	row     *exposition.Row
	expires time.Time
	// stale is when the byte gauges change without a report; zero: never.
	stale time.Time
	// rejected are the series that are not shown, by reason.
	rejected map[string]uint64
}

// Why a stored series is not shown. The reasons for which one is not let in are
// others.
const (
	rejectedConflict  = "type_conflict_on_page"
	rejectedFamilies  = "too_many_families_on_page"
	rejectedHistogram = "broken_histogram"
	rejectedLatency   = "broken_latency"
)

// maxDynamic bounds the families beyond the table's.
const maxDynamic = 1024

// grace is added to two report intervals before a silent agent's series end.
const grace = 10 * time.Second

func expiry(l ledger.Latest) time.Time { return l.Arrival.Add(2*l.Interval + grace) }

// put shows the latest state of an agent. The identity must have been known
// after its workspace last changed: what is older shows nothing. Totals that an
// older session delivered change what is shown, and do not bring back what has
// ended.
func (p *Publisher) put(names exposition.Names, known time.Time, l ledger.Latest, newest bool) {
	fresh := p.build(names, l, time.Now())
	p.mu.Lock()
	defer p.mu.Unlock()
	for reason, n := range fresh.rejected {
		p.rejected[reason] += n
	}
	if at, changed := p.changes[l.WorkspaceID]; changed && !known.After(at) {
		return
	}
	if _, shown := p.agents[fresh.key]; shown || newest {
		p.agents[fresh.key] = fresh
	}
}

func (p *Publisher) build(names exposition.Names, l ledger.Latest, now time.Time) *entry {
	e := &entry{
		key: agentKey{l.WorkspaceID, l.AgentName}, names: names, latest: l, expires: expiry(l), rejected: make(map[string]uint64),
	}
	totals := p.fitting(e, l.Totals, exposition.Counter)
	gauges := p.fitting(e, l.Gauges.GetSeries(), exposition.Gauge)
	table := p.table.Load()
	b := table.NewBuilder(names)
	p.addGauges(b, l.Gauges, gauges)
	e.stale = p.addBytes(b, l, now)
	histograms, broken := wholeHistograms(table, totals)
	e.rejected[rejectedHistogram] += broken
	for _, s := range totals {
		if f, _, ok := table.Lookup(s.GetName()); ok && f.Type != exposition.Histogram {
			p.addSeries(b, s)
		}
	}
	for _, s := range histograms {
		p.addSeries(b, s)
	}
	b.FillZeros(func(f *exposition.Family) bool { return f.Forwarded })
	e.row = b.Row()
	return e
}

// fitting returns the series whose family is, or now becomes, one of that type.
// Almost all were checked when they were let in; but the first agent to bring a
// family decides its type, and after a restart that may be another one.
func (p *Publisher) fitting(e *entry, series []*worktallypb.Series, typ exposition.Type) []*worktallypb.Series {
	kept := make([]*worktallypb.Series, 0, len(series))
	for _, s := range series {
		if reason := p.know(s.GetName(), typ); reason != "" {
			e.rejected[reason]++
			continue
		}
		kept = append(kept, s)
	}
	return kept
}

// know adds a family that an agent brought to the table, and says why a series
// of that name and type cannot be shown, "" if it can.
func (p *Publisher) know(name string, typ exposition.Type) (reason string) {
	for {
		table := p.table.Load()
		f, suffix, ok := table.Lookup(name)
		switch {
		case ok && (!f.Forwarded || (f.Type == exposition.Gauge) != (typ == exposition.Gauge) || (f.Type == exposition.Histogram) != (suffix != "")):
			return rejectedConflict
		case ok:
			return ""
		case len(table.Families())-len(p.o.Table.Families()) >= maxDynamic:
			return rejectedFamilies
		}
		dynamic := exposition.Family{
			Name: name, Type: typ, Help: "A metric that agents of another make forward.",
			Identity: exposition.AgentTemplate, Sides: exposition.ServerCollect, Forwarded: true,
		}
		if p.table.CompareAndSwap(table, table.Extend(dynamic)) {
			return ""
		}
	}
}

// add adds a sample of ours. Only what came from an agent can be refused, and
// that was checked when it was let in; the log tells if it was not.
func (p *Publisher) add(b *exposition.Builder, name string, v float64, labels ...exposition.Label) {
	if err := b.Add(name, v, labels...); err != nil && !errors.Is(err, exposition.ErrDuplicate) {
		p.log.Error("a series cannot be shown", "metric", name, "err", err)
	}
}

func (p *Publisher) addSeries(b *exposition.Builder, s *worktallypb.Series) {
	labels := make([]exposition.Label, 0, len(s.GetLabels())/2)
	for i := 0; i+1 < len(s.GetLabels()); i += 2 {
		labels = append(labels, exposition.Label{Name: s.Labels[i], Value: s.Labels[i+1]})
	}
	p.add(b, s.GetName(), s.GetValue(), labels...)
}

func (p *Publisher) addGauges(b *exposition.Builder, g *worktallypb.Gauges, series []*worktallypb.Series) {
	p.add(b, "coderd_agentstats_connection_count", float64(g.GetConnectionCount()))
	if g != nil && g.MedianLatencySeconds != nil {
		p.add(b, "coderd_agentstats_connection_median_latency_seconds", g.GetMedianLatencySeconds())
	}
	counts := map[appname.Family]int64{appname.JetBrains: 0, appname.ReconnectingPTY: 0, appname.SSH: 0, appname.VSCode: 0}
	for _, o := range g.GetSessions() {
		counts[appname.Gauge(appname.FamilyOf(o.GetAppName()))] += o.GetCount()
	}
	for f, n := range counts {
		p.add(b, "coderd_agentstats_session_count_"+string(f), float64(n))
	}
	for _, s := range series {
		p.addSeries(b, s)
	}
}

// addBytes adds the byte gauges and returns when they change by themselves.
func (p *Publisher) addBytes(b *exposition.Builder, l ledger.Latest, now time.Time) (stale time.Time) {
	var rx, tx uint64
	for _, w := range l.Recent {
		leaves := w.End.Add(p.o.ByteWindow)
		if !now.Before(leaves) {
			continue
		}
		rx, tx = rx+w.RxBytes, tx+w.TxBytes
		if stale.IsZero() || leaves.Before(stale) {
			stale = leaves
		}
	}
	p.add(b, "coderd_agentstats_rx_bytes", float64(rx))
	p.add(b, "coderd_agentstats_tx_bytes", float64(tx))
	return stale
}
