package ledger

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/worktally/worktally/wire/worktallypb"
)

// jumps are what clocks are changed by.
func jumps() []time.Duration {
	return []time.Duration{time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour}
}

// eachAgent runs test for an agent of ours that goes on, one that begins anew, and a
// stock agent: next returns its next report, which received 10 bytes and had a
// session open.
func eachAgent(t *testing.T, test func(t *testing.T, r *running, next func(at time.Time) Submission)) {
	const rx = 10
	for name, make := range map[string]func() func(at time.Time) Submission{
		"goes on": func() func(time.Time) Submission {
			seq := uint64(0)
			return func(at time.Time) Submission {
				seq++
				w := withApp(window(epoch1, seq, float64(seq)), "ssh", 0, 30*time.Second)
				w.WindowRxBytes = rx
				return submission(at, w)
			}
		},
		"begins anew": func() func(time.Time) Submission {
			return func(at time.Time) Submission {
				w := withApp(window(uuid.New(), 1, 1), "ssh", 0, 30*time.Second)
				w.WindowRxBytes = rx
				return submission(at, w)
			}
		},
		"stock": func() func(time.Time) Submission {
			return func(at time.Time) Submission {
				s := submission(at)
				s.Stock = &StockReport{RxBytes: rx, Added: series(1), Gauges: &worktallypb.Gauges{
					Sessions: []*worktallypb.OpenSessions{{AppName: "ssh", Family: "ssh", Count: 1}},
				}}
				return s
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cluster.OnBoth(t, func(t *testing.T, dsn string) { test(t, start(t, dsn, Options{}), make()) })
		})
	}
}

// TestLedger_ClockIsChanged: the next report after the server's clock was changed is
// the newest, with its whole window, and what came before counts in no byte gauge
// for longer than it should.
func TestLedger_ClockIsChanged(t *testing.T) {
	eachAgent(t, func(t *testing.T, r *running, next func(time.Time) Submission) {
		n := 0.0
		at := t0.Add(40 * 24 * time.Hour)
		report := func() Latest {
			t.Helper()
			at = at.Add(30 * time.Second)
			out := r.commit(next(at))
			n++
			l := r.loaded()
			if !out.Newest || !l.Arrival.Equal(at) || !l.End.Equal(at) || l.Length != 30*time.Second {
				t.Errorf("newest %v, arrived %v, ended %v after %v; it came at %v", out.Newest, l.Arrival, l.End, l.Length, at)
			}
			wantSeries(t, "totals", l.Totals, n)
			r.wantDeployment(n)
			return l
		}
		report()
		report()
		for _, by := range jumps() {
			at = at.Add(by)
			if recent := report().Recent; len(recent) != 1 {
				t.Errorf("%v: the byte gauges have %d windows", by, len(recent))
			}
			if recent := report().Recent; len(recent) != 2 {
				t.Errorf("%v and a report: the byte gauges have %d windows", by, len(recent))
			}
		}
	})
}

// TestLedger_HistoryAfterTheClockWasSetBack: minutes that are marked already, or lie
// in a future that is none any more, are in nobody's way.
func TestLedger_HistoryAfterTheClockWasSetBack(t *testing.T) {
	eachAgent(t, func(t *testing.T, r *running, next func(time.Time) Submission) {
		at := t0.Add(10 * time.Minute)
		for range 4 {
			r.commit(next(at.Add(24 * time.Hour)))
			r.commit(next(at))
			at = at.Add(30 * time.Second)
		}
		got := map[time.Time]uint64{}
		err := r.History(t.Context(), t0, t0.Add(48*time.Hour), func(h HistoryRow) error {
			got[h.Hour] |= h.Minutes["ssh"]
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// Windows end at 10:00, 10:30, 11:00 and 11:30.
		want := map[time.Time]uint64{t0: 3 << 10, t0.Add(24 * time.Hour): 3 << 10}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("minutes (-want +got):\n%s", diff)
		}
	})
}

// TestLedger_PurgeAfterTheClockJumpedAhead deletes no more than the jump is long.
func TestLedger_PurgeAfterTheClockJumpedAhead(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		r := start(t, dsn, Options{})
		hours := int64(retention/time.Hour) + 1
		for h := range hours {
			w := withApp(window(epoch1, uint64(h)+1, float64(h)), "ssh", 0, 30*time.Second)
			r.commit(submission(t0.Add(time.Duration(h)*time.Hour), w))
		}
		now := t0.Add(time.Duration(hours-1) * time.Hour)
		if n, err := r.Purge(t.Context(), now); err != nil || n != 0 {
			t.Errorf("%d rows are deleted before their time: %v", n, err)
		}
		if n, err := r.Purge(t.Context(), now.Add(24*time.Hour)); err != nil || n != 24 {
			t.Errorf("%d rows are deleted, want those of 24 hours: %v", n, err)
		}
	})
}
