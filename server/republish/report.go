package republish

import (
	"errors"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/appname"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/wire/worktallypb"
)

// Why a stored series is not shown. The reasons for which one is not let in are
// others.
const (
	rejectedConflict  = "type_conflict_on_page"
	rejectedFamilies  = "too_many_families_on_page"
	rejectedHistogram = "broken_histogram"
	rejectedLatency   = "broken_latency"
	rejectedTooMany   = "too_many_series_on_page"
	rejectedTooLarge  = "too_many_bytes_on_page"
	rejectedDuplicate = "duplicate_on_page"
	rejectedInvalid   = "invalid_on_page"
	rejectedFull      = "page_full"
)

func reasons() []string {
	return []string{rejectedConflict, rejectedFamilies, rejectedHistogram, rejectedLatency, rejectedTooMany, rejectedTooLarge, rejectedDuplicate, rejectedInvalid, rejectedFull}
}

// Limits bound what agents can make of the page. The zero value of a field means
// its default.
type Limits struct {
	// AgentSeries and AgentBytes bound one agent: 2,000 series, 1 MiB in the text
	// format. What counts comes first, what agents made up comes last.
	AgentSeries, AgentBytes int
	// Series and Bytes bound all agents together: 20 million series, 4 GiB. A report
	// that does not fit is not shown.
	Series, Bytes int64
}

func (l Limits) withDefaults() Limits {
	if l.AgentSeries <= 0 {
		l.AgentSeries = 2000
	}
	if l.AgentBytes <= 0 {
		l.AgentBytes = 1 << 20
	}
	if l.Series <= 0 {
		l.Series = 20_000_000
	}
	if l.Bytes <= 0 {
		l.Bytes = 4 << 30
	}
	return l
}

// report turns what the ledger has of an agent into a row.
type report struct {
	p *Publisher
	b *exposition.Builder
	// refused are the series that are not shown, by reason.
	refused map[string]uint64
}

// build returns the entry of an agent and how many of its series are not shown,
// by reason. Its newest report has arrived then.
func (p *Publisher) build(names exposition.Names, l ledger.Latest, arrived instant) (*entry, map[string]uint64) {
	e := &entry{key: agentKey{l.WorkspaceID, l.AgentName}, arrived: arrived, expires: arrived + lifetime(l), windows: p.windows(l, arrived)}
	r := &report{p: p, refused: make(map[string]uint64)}
	totals := r.fitting(l.Totals, exposition.Counter)
	gauges := r.fitting(l.Gauges.GetSeries(), exposition.Gauge)
	table := p.table.Load()
	r.b = table.NewBuilder(names)
	r.b.Limit(p.o.Limits.AgentSeries, p.o.Limits.AgentBytes)
	r.gauges(l.Gauges)
	rx, tx := sums(e.windows)
	r.add(rxBytes, rx)
	r.add(txBytes, tx)
	r.add("worktally_agent_report_windows_missing", float64(l.MissingWindows))
	histograms, broken := wholeHistograms(table, totals)
	r.refused[rejectedHistogram] += broken
	// Families of ours come first, for if there are too many series the last ones
	// are left out.
	r.families(table, true, totals, gauges)
	for _, h := range histograms {
		r.histogram(h)
	}
	r.families(table, false, totals, gauges)
	r.b.FillZeros(func(f *exposition.Family) bool { return f.Forwarded })
	e.row = r.b.Row()
	return e, r.refused
}

// fitting returns the series whose family is, or now becomes, one of that type.
// Almost all were checked when they were let in; but the first agent to bring a
// family decides its type, and after a restart that may be another one.
func (r *report) fitting(series []*worktallypb.Series, typ exposition.Type) []*worktallypb.Series {
	kept := make([]*worktallypb.Series, 0, len(series))
	for _, s := range series {
		if reason := r.p.know(s.GetName(), typ); reason != "" {
			r.refused[reason]++
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
		case !exposition.ValidMetricName(name):
			return rejectedInvalid
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

// maxDynamic bounds the families beyond the table's.
const maxDynamic = 1024

// add adds a sample, or counts why it cannot be shown.
func (r *report) add(name string, v float64, labels ...exposition.Label) {
	if reason := refusal(r.b.Add(name, v, labels...)); reason != "" {
		r.refused[reason]++
	}
}

func refusal(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, exposition.ErrTooMany):
		return rejectedTooMany
	case errors.Is(err, exposition.ErrTooLarge):
		return rejectedTooLarge
	case errors.Is(err, exposition.ErrDuplicate):
		return rejectedDuplicate
	}
	return rejectedInvalid
}

// families adds the series that are no part of a histogram, of our families or
// of the others.
func (r *report) families(table *exposition.Table, ours bool, groups ...[]*worktallypb.Series) {
	for _, series := range groups {
		for _, s := range series {
			f, _, _ := table.Lookup(s.GetName())
			_, _, known := r.p.o.Table.Lookup(s.GetName())
			if f.Type != exposition.Histogram && known == ours {
				r.add(s.GetName(), s.GetValue(), labelsOf(s)...)
			}
		}
	}
}

// histogram adds all parts of a histogram, or none: half of one breaks parsers.
func (r *report) histogram(h *flattened) {
	before := r.b.Len()
	for _, s := range h.parts {
		if reason := refusal(r.b.Add(s.GetName(), s.GetValue(), labelsOf(s)...)); reason != "" {
			r.b.Undo(before)
			r.refused[reason] += uint64(len(h.parts))
			return
		}
	}
}

func labelsOf(s *worktallypb.Series) []exposition.Label {
	labels := make([]exposition.Label, 0, len(s.GetLabels())/2)
	for i := 0; i+1 < len(s.GetLabels()); i += 2 {
		labels = append(labels, exposition.Label{Name: s.Labels[i], Value: s.Labels[i+1]})
	}
	return labels
}

func (r *report) gauges(g *worktallypb.Gauges) {
	r.add("coderd_agentstats_connection_count", float64(g.GetConnectionCount()))
	if g != nil && g.MedianLatencySeconds != nil {
		r.add("coderd_agentstats_connection_median_latency_seconds", g.GetMedianLatencySeconds())
	}
	counts := map[appname.Family]int64{appname.JetBrains: 0, appname.ReconnectingPTY: 0, appname.SSH: 0, appname.VSCode: 0}
	for _, o := range g.GetSessions() {
		counts[appname.Gauge(appname.FamilyOf(o.GetAppName()))] += o.GetCount()
	}
	for f, n := range counts {
		r.add("coderd_agentstats_session_count_"+string(f), float64(n))
	}
}
