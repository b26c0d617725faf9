package exposition

import (
	"maps"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// NewCollector offers a page's own rows to a registry of client_golang, for
// programs that have a page already. Its families depend on what happened, so it
// describes only the first one beforehand, by which the registry knows it again:
// a collector that describes nothing could never be unregistered. A pedantic
// registry, which wants to know all beforehand, takes it and fails to gather.
func NewCollector(page func() Page) prometheus.Collector { return collector{page} }

type collector struct{ page func() Page }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	p := c.page()
	for i := range p.Table.families {
		if f := &p.Table.families[i]; f.Sides&p.Sides != 0 {
			ch <- prometheus.NewDesc(f.Name, f.Help, nil, nil)
			return
		}
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	p := c.page()
	for i := range p.Table.families {
		f := &p.Table.families[i]
		if f.Sides&p.Sides == 0 {
			continue
		}
		for _, r := range p.Rows {
			if f.Type == Histogram {
				collectHistograms(ch, f, r, r.of(i))
				continue
			}
			kind := prometheus.GaugeValue
			if f.Type == Counter {
				kind = prometheus.CounterValue
			}
			for _, s := range r.of(i) {
				desc := prometheus.NewDesc(f.Name, f.Help, nil, r.constLabels(f, s.labels))
				ch <- prometheus.MustNewConstMetric(desc, kind, s.value)
			}
		}
	}
}

// collectHistograms puts the parts of each histogram together; they stand side
// by side, buckets first.
func collectHistograms(ch chan<- prometheus.Metric, f *Family, r *Row, samples []Sample) {
	buckets := make(map[float64]uint64)
	var sum float64
	for _, s := range samples {
		rest, bound := splitBound(s.labels)
		switch s.suffix {
		case "_bucket":
			buckets[bound] = uint64(s.value)
		case "_sum":
			sum = s.value
		case "_count":
			desc := prometheus.NewDesc(f.Name, f.Help, nil, r.constLabels(f, rest))
			ch <- prometheus.MustNewConstHistogram(desc, uint64(s.value), sum, maps.Clone(buckets))
			clear(buckets)
			sum = 0
		}
	}
}

// constLabels reads rendered labels back; they were valid when they were
// rendered.
func (r *Row) constLabels(f *Family, rendered string) prometheus.Labels {
	labels := prometheus.Labels{}
	for _, part := range []string{r.prefixes[f.Identity], rendered} {
		for part != "" {
			name, rest, _ := strings.Cut(part, "=")
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				panic("BUG: exposition: rendered labels " + rendered + ": " + err.Error())
			}
			value, err := strconv.Unquote(quoted)
			if err != nil {
				panic("BUG: exposition: rendered label " + quoted + ": " + err.Error())
			}
			labels[name] = value
			part = strings.TrimPrefix(rest[len(quoted):], ",")
		}
	}
	return labels
}
