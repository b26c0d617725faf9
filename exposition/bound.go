package exposition

import (
	"math"
	"strconv"
	"strings"
)

// splitBound takes the bucket bound out of rendered labels: the labels without
// it, and its value.
func splitBound(labels string) (rest string, bound float64) {
	const open = `le="`
	i := strings.Index(labels, open)
	if i < 0 || i > 0 && labels[i-1] != ',' {
		return labels, math.Inf(1)
	}
	value, after, _ := strings.Cut(labels[i+len(open):], `"`)
	bound, err := strconv.ParseFloat(value, 64)
	if err != nil {
		bound = math.Inf(1)
	}
	rest = labels[:i] + strings.TrimPrefix(after, ",")
	return strings.TrimSuffix(rest, ","), bound
}

// FormatBound writes a bucket bound as a canonical float, which OpenMetrics
// demands and the text format allows.
func FormatBound(b float64) string {
	switch {
	case math.IsInf(b, 1):
		return "+Inf"
	case b == math.Trunc(b) && math.Abs(b) < 1e15:
		return strconv.FormatFloat(b, 'f', 1, 64)
	}
	return strconv.FormatFloat(b, 'g', -1, 64)
}
