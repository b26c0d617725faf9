package exposition

import (
	"maps"
	"slices"

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
		for _, r := range slices.Concat(p.groups()...) {
			first, places := r.shape.of(i)
			if f.Type == Histogram {
				collectHistograms(ch, f, r, first, places)
				continue
			}
			kind := prometheus.GaugeValue
			if f.Type == Counter {
				kind = prometheus.CounterValue
			}
			for j := range places {
				desc := prometheus.NewDesc(f.Name, f.Help, nil, r.constLabels(f, places[j].labels()))
				ch <- prometheus.MustNewConstMetric(desc, kind, r.value(first+j))
			}
		}
	}
}

// collectHistograms puts the parts of each histogram together; they stand side
// by side, buckets first.
func collectHistograms(ch chan<- prometheus.Metric, f *Family, r *Row, first int, places []place) {
	buckets := make(map[float64]uint64)
	var sum float64
	for i := range places {
		rest, bound := splitBound(places[i].labels())
		switch v := r.value(first + i); places[i].suffix {
		case bucketSuffix:
			buckets[bound] = uint64(v)
		case sumSuffix:
			sum = v
		case countSuffix:
			desc := prometheus.NewDesc(f.Name, f.Help, nil, r.constLabels(f, rest))
			ch <- prometheus.MustNewConstHistogram(desc, uint64(v), sum, maps.Clone(buckets))
			clear(buckets)
			sum = 0
		}
	}
}

func (r *Row) constLabels(f *Family, rendered string) prometheus.Labels {
	labels := prometheus.Labels{}
	for _, part := range []string{r.identity(f.Identity), rendered} {
		for part != "" {
			var name, value string
			name, value, part = nextLabel(part)
			labels[name] = value
		}
	}
	return labels
}
