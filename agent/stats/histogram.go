package stats

import (
	"strconv"
	"time"
)

// histogram is a histogram kept as the cumulative counters it has on a page and
// on the wire, where a report carries only counters and gauges.
type histogram struct {
	bounds  []float64
	buckets []*counter
	sum     *counter
	count   *counter
}

// microsecond is the resolution of duration sums.
const microsecond = 1e6

func newHistogram(cs *counters, name string, bounds []float64, labels ...string) *histogram {
	h := &histogram{bounds: bounds}
	for _, b := range bounds {
		h.buckets = append(h.buckets, cs.add(name+"_bucket", append([]string{"le", formatBound(b)}, labels...)...))
	}
	h.buckets = append(h.buckets, cs.add(name+"_bucket", append([]string{"le", "+Inf"}, labels...)...))
	h.sum = cs.add(name+"_sum", labels...)
	h.sum.divisor = microsecond
	h.count = cs.add(name+"_count", labels...)
	return h
}

// formatBound writes a bucket bound as a canonical float, which OpenMetrics
// demands and the text format allows.
func formatBound(b float64) string {
	s := strconv.FormatFloat(b, 'g', -1, 64)
	if float64(int64(b)) == b {
		s = strconv.FormatFloat(b, 'f', 1, 64)
	}
	return s
}

func (h *histogram) observe(d time.Duration) {
	d = max(d, 0)
	v := d.Seconds()
	for i, b := range h.bounds {
		if v <= b {
			h.buckets[i].n++
		}
	}
	h.buckets[len(h.bounds)].n++
	h.sum.n += uint64(d.Microseconds())
	h.count.n++
}
