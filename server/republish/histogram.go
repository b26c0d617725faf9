package republish

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/wire/worktallypb"
)

// flattened is one histogram of an agent, in parts.
type flattened struct {
	buckets   []bucket
	sum       bool
	count     float64
	counted   bool
	parts     []*worktallypb.Series
	base      string
	ownLabels []string
}

type bucket struct{ bound, value float64 }

// whole says whether a parser would take the histogram: buckets that do not
// fall, the last of them infinite and equal to the count.
func (h *flattened) whole() bool {
	slices.SortFunc(h.buckets, func(x, y bucket) int { return cmp.Compare(x.bound, y.bound) })
	if len(h.buckets) == 0 || !h.counted {
		return false
	}
	last := h.buckets[len(h.buckets)-1]
	rising := slices.IsSortedFunc(h.buckets, func(x, y bucket) int { return cmp.Compare(x.value, y.value) })
	return rising && exposition.FormatBound(last.bound) == "+Inf" && last.value == h.count
}

// wholeHistograms returns the histograms among totals that can be shown, and how
// many cannot. An agent leaves out what is 0, so a missing sum is added.
func wholeHistograms(table *exposition.Table, totals []*worktallypb.Series) (whole []*flattened, broken uint64) {
	groups := make(map[string]*flattened)
	var order []*flattened
	for _, s := range totals {
		f, suffix, ok := table.Lookup(s.GetName())
		if !ok || f.Type != exposition.Histogram {
			continue
		}
		labels, bound := withoutBound(s.GetLabels())
		key := f.Name + "\xff" + strings.Join(labels, "\xff")
		h := groups[key]
		if h == nil {
			h = &flattened{base: f.Name, ownLabels: labels}
			groups[key] = h
			order = append(order, h)
		}
		h.parts = append(h.parts, s)
		switch suffix {
		case "_bucket":
			h.buckets = append(h.buckets, bucket{bound, s.GetValue()})
		case "_count":
			h.count, h.counted = s.GetValue(), true
		case "_sum":
			h.sum = true
		}
	}
	for _, h := range order {
		if !h.whole() {
			broken++
			continue
		}
		if !h.sum {
			h.parts = append(h.parts, &worktallypb.Series{Name: h.base + "_sum", Labels: h.ownLabels})
		}
		whole = append(whole, h)
	}
	return whole, broken
}

// withoutBound takes the bucket bound out of labels.
func withoutBound(labels []string) (rest []string, bound float64) {
	for i := 0; i+1 < len(labels); i += 2 {
		if labels[i] != "le" {
			rest = append(rest, labels[i], labels[i+1])
			continue
		}
		var err error
		if bound, err = strconv.ParseFloat(labels[i+1], 64); err != nil {
			bound = 0 // it was checked when it was let in
		}
	}
	return rest, bound
}
