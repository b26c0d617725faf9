package exposition

import (
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// gathered writes a family of a registry. Native histograms have no place in
// these formats; a registry's histograms show their classic buckets.
func (tw *textWriter) gathered(mf *dto.MetricFamily) {
	name := mf.GetName()
	tw.header(name, typeOf(mf.GetType()), mf.GetHelp())
	for _, m := range mf.GetMetric() {
		labels := make([]Label, 0, len(m.GetLabel())+1)
		for _, l := range m.GetLabel() {
			labels = append(labels, Label{l.GetName(), strings.ToValidUTF8(l.GetValue(), "\uFFFD")})
		}
		rendered := renderLabels(labels)
		switch {
		case m.Counter != nil:
			tw.sample(name, "", rendered, m.Counter.GetValue())
		case m.Gauge != nil:
			tw.sample(name, "", rendered, m.Gauge.GetValue())
		case m.Untyped != nil:
			tw.sample(name, "", rendered, m.Untyped.GetValue())
		case m.Summary != nil:
			for _, q := range m.Summary.GetQuantile() {
				tw.sample(name, "", renderLabels(append(labels, Label{"quantile", FormatBound(q.GetQuantile())})), q.GetValue())
			}
			tw.sample(name, "_sum", rendered, m.Summary.GetSampleSum())
			tw.sample(name, "_count", rendered, float64(m.Summary.GetSampleCount()))
		case m.Histogram != nil:
			tw.histogram(name, labels, rendered, m.Histogram)
		}
	}
}

func (tw *textWriter) histogram(name string, labels []Label, rendered string, h *dto.Histogram) {
	infinite := false
	for _, b := range h.GetBucket() {
		bound := FormatBound(b.GetUpperBound())
		infinite = infinite || bound == "+Inf"
		tw.sample(name, "_bucket", renderLabels(append(labels, Label{"le", bound})), float64(b.GetCumulativeCount()))
	}
	if !infinite {
		tw.sample(name, "_bucket", renderLabels(append(labels, Label{"le", "+Inf"})), float64(h.GetSampleCount()))
	}
	tw.sample(name, "_sum", rendered, h.GetSampleSum())
	tw.sample(name, "_count", rendered, float64(h.GetSampleCount()))
}

func typeOf(t dto.MetricType) Type {
	switch t {
	case dto.MetricType_COUNTER:
		return Counter
	case dto.MetricType_GAUGE:
		return Gauge
	case dto.MetricType_SUMMARY:
		return Summary
	case dto.MetricType_HISTOGRAM:
		return Histogram
	}
	return Untyped
}
