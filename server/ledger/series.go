package ledger

import (
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/wire/worktallypb"
)

// maxSeries bounds the series of one epoch. The caller's limits are lower; this
// one also covers series that an agent reported in the past only.
const maxSeries = 4096

// diff is how much one series grew.
type diff struct {
	series *worktallypb.Series // name and labels
	by     float64
}

// sameSeries compares name and labels.
func sameSeries(a, b *worktallypb.Series) bool {
	return a.GetName() == b.GetName() && slices.Equal(a.GetLabels(), b.GetLabels())
}

// seriesKey joins name and labels. The separator cannot occur in valid UTF-8, so
// different series have different keys.
func seriesKey(s *worktallypb.Series) string {
	n := len(s.GetName())
	for _, l := range s.GetLabels() {
		n += 1 + len(l)
	}
	b := make([]byte, 0, n)
	b = append(b, s.GetName()...)
	for _, l := range s.GetLabels() {
		b = append(append(b, 0xff), l...)
	}
	return string(b)
}

// advance compares newer totals of an epoch with the stored ones. It returns the
// totals to store (a series that is no longer reported keeps its value), what
// grew, including series that are new and 0, or the reason to refuse. The result
// shares series with the arguments, which are not changed.
func advance(stored, reported []*worktallypb.Series) (totals []*worktallypb.Series, grown []diff, refused string) {
	if slices.EqualFunc(stored, reported, sameSeries) { // the usual case: no map
		for i, r := range reported {
			by, ok := growth(stored[i].GetValue(), r.GetValue())
			if !ok {
				return nil, nil, RefusedTotalsFell
			}
			if by > 0 {
				grown = append(grown, diff{r, by})
			}
		}
		return reported, grown, ""
	}
	totals = slices.Clone(stored)
	index := newIndex(stored)
	seen := make(map[string]bool, len(reported))
	for _, r := range reported {
		key := seriesKey(r)
		if seen[key] {
			return nil, nil, RefusedDuplicate
		}
		seen[key] = true
		i, known := index[key]
		if !known {
			i = len(totals)
			totals = append(totals, nil)
		}
		by, ok := growth(totals[i].GetValue(), r.GetValue())
		if !ok {
			return nil, nil, RefusedTotalsFell
		}
		if by > 0 || !known {
			grown = append(grown, diff{r, by})
		}
		totals[i] = r
	}
	if len(totals) > maxSeries {
		return nil, nil, RefusedTooManySeries
	}
	return totals, grown, ""
}

// growth returns how much a total grew; false if it fell or is no number.
func growth(from, to float64) (float64, bool) {
	by := to - from
	return by, to >= 0 && by >= 0 && !math.IsInf(by, 0) && !math.IsNaN(by)
}

func newIndex(list []*worktallypb.Series) map[string]int {
	index := make(map[string]int, len(list))
	for i, s := range list {
		index[seriesKey(s)] = i
	}
	return index
}

// sum adds what grew to totals and returns the new list. Changed series are
// copied; dropped counts those for which there was no room.
func sum(totals []*worktallypb.Series, grown []diff) (_ []*worktallypb.Series, dropped int) {
	if len(grown) == 0 {
		return totals, 0
	}
	totals = slices.Clone(totals)
	index := newIndex(totals)
	for _, g := range grown {
		key := seriesKey(g.series)
		i, known := index[key]
		if !known {
			if len(totals) >= maxSeries {
				dropped++
				continue
			}
			i = len(totals)
			index[key] = i
			totals = append(totals, nil)
		}
		totals[i] = &worktallypb.Series{
			Name:   g.series.GetName(),
			Labels: g.series.GetLabels(),
			Value:  totals[i].GetValue() + g.by,
		}
	}
	return totals, dropped
}

// asGrowth turns totals into what has to be added to reach them from nothing.
func asGrowth(totals []*worktallypb.Series) []diff {
	grown := make([]diff, len(totals))
	for i, s := range totals {
		grown[i] = diff{s, s.GetValue()}
	}
	return grown
}

// encodeSeries is the stored form of a list: a Window that has only totals.
func encodeSeries(list []*worktallypb.Series) ([]byte, error) {
	return encode(&worktallypb.Window{Totals: list})
}

func decodeSeries(blob []byte) ([]*worktallypb.Series, error) {
	var w worktallypb.Window
	if err := proto.Unmarshal(blob, &w); err != nil {
		return nil, err
	}
	return w.GetTotals(), nil
}

// encode never returns nil, which a database would take for NULL.
func encode(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend([]byte{}, m)
}
