package ledger

import (
	"testing"
	"time"

	"github.com/worktally/worktally/wire/worktallypb"
)

// TestLedger_SeriesWithoutLabels: no labels and an empty list of them, which is left
// when all were empty, are one series. Of two the page would show one alone.
func TestLedger_SeriesWithoutLabels(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		r := start(t, dsn, Options{})
		for i, labels := range [][]string{nil, {}} {
			w := window(epoch1, 1)
			w.Totals = []*worktallypb.Series{{Name: "x_total", Labels: labels, Value: float64(5 + i)}}
			s := submission(t0.Add(time.Duration(i)*time.Second), w)
			if i > 0 {
				s.WorkspaceID = wsB
			}
			r.commit(s)
		}
		totals, err := r.DeploymentTotals(t.Context())
		if err != nil || len(totals) != 1 || totals[0].Value != 11 {
			t.Errorf("totals %v, %v", totals, err)
		}
	})
}
