package ledger

import (
	"bytes"
	"database/sql"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/worktally/worktally/wire/worktallypb"
)

// stocked is a ledger with one stock agent. Its network counters are sent and not taken.
type stocked struct {
	*running
	at time.Time
}

func startStocked(t *testing.T, dsn string) *stocked {
	return &stocked{start(t, dsn, Options{}), t0}
}

// report commits values of a_total, b_total, ... and of the network counters.
func (s *stocked) report(counters, network []float64, edit ...func(*Submission)) Outcome {
	s.t.Helper()
	s.at = s.at.Add(30 * time.Second)
	sub := submission(s.at)
	sub.Stock = &StockReport{Counters: series(counters...), Sent: series(counters...), Gauges: &worktallypb.Gauges{}}
	for i, v := range network {
		sub.Stock.Sent = append(sub.Stock.Sent, &worktallypb.Series{Name: "magicsock_" + string(rune('a'+i)), Value: v})
	}
	for _, e := range edit {
		e(&sub)
	}
	out := s.commit(sub)
	s.commit(sub) // a retry changes nothing
	return out
}

// wantTotals compares what the last report made of the agent and of the deployment.
func (s *stocked) wantTotals(want ...float64) {
	s.t.Helper()
	deployment, err := s.DeploymentTotals(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, list := range [][]*worktallypb.Series{s.loaded().Totals, deployment} {
		got, wanted := map[string]float64{}, map[string]float64{}
		for _, t := range list {
			got[t.GetName()] = t.GetValue()
		}
		for _, w := range series(want...) {
			wanted[w.GetName()] = w.GetValue()
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			s.t.Errorf("totals (-want +got):\n%s", diff)
		}
	}
}

// TestStock_Restarts: a workspace with a stock agent is started once a day. Each time
// one start script runs, and some time later one SFTP session is opened.
func TestStock_Restarts(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		s := startStocked(t, dsn)
		for range 5 {
			s.at = s.at.Add(24 * time.Hour)
			s.report([]float64{1}, []float64{100, 90, 80})
			s.report([]float64{1}, []float64{2000, 900, 800})
			s.report([]float64{1, 1}, []float64{5000, 4000, 3000})
		}
		s.wantTotals(5, 5)
		// One of ours in between changes nothing: the next stock agent has restarted too.
		s.at = s.at.Add(time.Hour)
		s.commit(submission(s.at, window(epoch1, 1, 10)))
		s.report([]float64{1}, []float64{100, 90, 80})
		s.wantTotals(16, 5)
	})
}

// TestStock_NoRestart: what only looks like a restart counts nothing twice.
func TestStock_NoRestart(t *testing.T) {
	older := func(s *Submission) { s.OlderSession = true }
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		name     string
		counters []float64 // 0: not there
		network  []float64
		edit     func(*Submission)
	}{
		{name: "one falls", network: []float64{1, 4000, 3000}},
		{name: "one falls and the others are not there", network: []float64{1}},
		{name: "the network is not there"},
		{name: "nothing is there", edit: func(s *Submission) { s.Stock.Counters, s.Stock.Sent = nil, nil }},
		{name: "values that are none", network: []float64{nan, inf, -1}},
		{name: "infinite", network: []float64{inf, inf, inf}},
		{name: "an older session", network: []float64{1, 1, 1}, edit: older},
		{name: "twice in a report", network: []float64{5000, 4000, 3000}, edit: func(s *Submission) {
			s.Stock.Sent = append(s.Stock.Sent, &worktallypb.Series{Name: "magicsock_a"}, &worktallypb.Series{Name: "magicsock_b"})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startStocked(t, t.TempDir()+"/test.db")
			counters := []float64{7, 3}
			s.report(counters, []float64{5000, 4000, 3000})
			s.report(counters, c.network, func(s *Submission) {
				if c.edit != nil {
					c.edit(s)
				}
			})
			s.report(counters, []float64{5001, 4001, 3001})
			s.wantTotals(7, 3)
		})
	}
}

// TestStock_OlderDatabase: without witnesses each series speaks for itself, as before.
func TestStock_OlderDatabase(t *testing.T) {
	s := startStocked(t, t.TempDir()+"/test.db")
	s.report([]float64{7, 3}, []float64{5000, 4000, 3000})
	old, err := encodeSeries(series(7, 3))
	if err != nil {
		t.Fatal(err)
	}
	err = s.db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE ledger_epochs SET absolutes = $1 WHERE epoch = $2`, old, uuid.Nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.report([]float64{7, 1}, []float64{1, 1, 1})
	s.wantTotals(7, 4)
	s.report([]float64{7, 1}, []float64{5000, 4000, 3000})
	s.report([]float64{7, 1}, []float64{1, 1, 1})
	s.wantTotals(14, 5)
}

// TestWitnesses_Few: there are few, and they are what a server without them skips.
func TestWitnesses_Few(t *testing.T) {
	var sent []*worktallypb.Series
	for i := range 1000 {
		sent = append(sent, &worktallypb.Series{Name: string(rune(0x100 + i)), Value: float64(i)})
	}
	e := &epochState{absolutes: series(1, 2), witnesses: witnesses(sent)}
	if len(e.witnesses) != maxWitnesses || e.witnesses[0] != sent[999] {
		t.Errorf("%d witnesses, %v first", len(e.witnesses), e.witnesses[0])
	}
	blob, err := e.encodeAbsolutes()
	if err != nil {
		t.Fatal(err)
	}
	absolutes, err := decodeSeries(blob)
	if err != nil || len(absolutes) != 2 {
		t.Errorf("absolutes %v, error %v", absolutes, err)
	}
	got := &epochState{}
	if err := got.decodeAbsolutes(blob); err != nil || len(got.absolutes) != 2 || len(got.witnesses) != maxWitnesses {
		t.Errorf("read back: %d, %d, %v", len(got.absolutes), len(got.witnesses), err)
	}
	if again, err := got.encodeAbsolutes(); err != nil || !bytes.Equal(again, blob) {
		t.Errorf("written again: %v", err)
	}
}
