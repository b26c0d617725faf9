package exposition

import (
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// gathered writes a family of a registry. Native histograms have no place in
// these formats; a registry's histograms show their classic buckets.
func (pw *pageWriter) gathered(mf *dto.MetricFamily) {
	typ := map[dto.MetricType]Type{
		dto.MetricType_COUNTER:   Counter,
		dto.MetricType_GAUGE:     Gauge,
		dto.MetricType_SUMMARY:   Summary,
		dto.MetricType_HISTOGRAM: Histogram,
	}[mf.GetType()]
	if typ == "" {
		typ = Untyped
	}
	name := pw.header(mf.GetName(), typ, mf.GetHelp())
	for _, m := range mf.GetMetric() {
		labels := make([]Label, 0, len(m.GetLabel())+1)
		for _, l := range m.GetLabel() {
			labels = append(labels, Label{l.GetName(), strings.ToValidUTF8(l.GetValue(), "\uFFFD")})
		}
		rendered := renderLabels(labels)
		switch {
		case m.Counter != nil:
			pw.sample(name, "", "", rendered, m.Counter.GetValue())
		case m.Gauge != nil:
			pw.sample(name, "", "", rendered, m.Gauge.GetValue())
		case m.Untyped != nil:
			pw.sample(name, "", "", rendered, m.Untyped.GetValue())
		case m.Summary != nil:
			for _, q := range m.Summary.GetQuantile() {
				with := renderLabels(append(labels, Label{"quantile", FormatBound(q.GetQuantile())}))
				pw.sample(name, "", "", with, q.GetValue())
			}
			pw.sample(name, "_sum", "", rendered, m.Summary.GetSampleSum())
			pw.sample(name, "_count", "", rendered, float64(m.Summary.GetSampleCount()))
		case m.Histogram != nil:
			pw.histogram(name, labels, rendered, m.Histogram)
		}
	}
}

func (pw *pageWriter) histogram(name string, labels []Label, rendered string, h *dto.Histogram) {
	infinite := false
	for _, b := range h.GetBucket() {
		bound := FormatBound(b.GetUpperBound())
		infinite = infinite || bound == "+Inf"
		pw.sample(name, "_bucket", "", renderLabels(append(labels, Label{"le", bound})), float64(b.GetCumulativeCount()))
	}
	if !infinite {
		pw.sample(name, "_bucket", "", renderLabels(append(labels, Label{"le", "+Inf"})), float64(h.GetSampleCount()))
	}
	pw.sample(name, "_sum", "", rendered, h.GetSampleSum())
	pw.sample(name, "_count", "", rendered, float64(h.GetSampleCount()))
}
