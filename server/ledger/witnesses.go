package ledger

import (
	"cmp"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/wire/worktallypb"
)

// A stock agent that restarts counts from 0 and does not say so, and a counter that was
// 1 and is 1 again has not fallen. Its largest counters have: those of the last report
// are remembered as witnesses. They are chosen from all that the agent sent, because
// what is taken of that depends on the server's configuration, and small.

// maxWitnesses is more than a counter or two that behave oddly can outvote.
const maxWitnesses = 8

// witnesses returns the largest counters of a report.
func witnesses(sent []*worktallypb.Series) []*worktallypb.Series {
	all := slices.DeleteFunc(slices.Clone(sent), func(s *worktallypb.Series) bool {
		return !(s.GetValue() > 0) || math.IsInf(s.GetValue(), 0)
	})
	slices.SortStableFunc(all, func(a, b *worktallypb.Series) int { return cmp.Compare(b.GetValue(), a.GetValue()) })
	return all[:min(len(all), maxWitnesses)]
}

// restarted says whether most of the witnesses that were sent again have fallen. One
// alone may be no counter at all, and to take that for a restart would count everything
// twice.
func restarted(witnesses, sent []*worktallypb.Series) bool {
	present, fallen := 0, 0
	for _, w := range witnesses {
		there, stands := false, false
		for _, s := range sent {
			if s.GetValue() >= 0 && sameSeries(s, w) {
				there, stands = true, stands || s.GetValue() >= w.GetValue()
			}
		}
		if there {
			present++
		}
		if there && !stands {
			fallen++
		}
	}
	return fallen > 1 && 2*fallen > present
}

// encodeAbsolutes keeps the witnesses beside the absolutes, where nothing that counts
// looks. A server that knows only absolutes leaves them out, so that none are there
// that it did not keep up with.
func (e *epochState) encodeAbsolutes() ([]byte, error) {
	return encode(&worktallypb.Window{Totals: e.absolutes, Gauges: &worktallypb.Gauges{Series: e.witnesses}})
}

func (e *epochState) decodeAbsolutes(blob []byte) error {
	var w worktallypb.Window
	err := proto.Unmarshal(blob, &w)
	e.absolutes, e.witnesses = w.GetTotals(), w.GetGauges().GetSeries()
	return err
}
