package ledger

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/internal/pgtest"
	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// cluster is the PostgreSQL server of this test binary.
var cluster pgtest.Cluster

func TestMain(m *testing.M) { cluster.Main(m) }

// running is a ledger whose writer runs.
type running struct {
	*Ledger
	t    testing.TB
	db   *sqldb.DB
	stop context.CancelFunc
	done chan error
}

func start(t testing.TB, dsn string, o Options) *running {
	t.Helper()
	db, err := sqldb.Open(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(context.Background(), db, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Ledger: l, t: t, db: db, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- l.Run(ctx) }()
	t.Cleanup(r.close)
	return r
}

func (r *running) close() {
	if r.db == nil {
		return
	}
	r.stop()
	if err := <-r.done; err != nil {
		r.t.Errorf("Run: %v", err)
	}
	if err := r.db.Close(); err != nil {
		r.t.Error(err)
	}
	r.db = nil
}

func (r *running) commit(s Submission) Outcome {
	r.t.Helper()
	out, err := r.Commit(context.Background(), s)
	if err != nil {
		r.t.Fatalf("commit: %v", err)
	}
	return out
}

var (
	wsA    = uuid.MustParse("aaaaaaaa-0000-4000-8000-000000000000")
	wsB    = uuid.MustParse("bbbbbbbb-0000-4000-8000-000000000000")
	owner  = uuid.MustParse("cccccccc-0000-4000-8000-000000000000")
	epoch1 = uuid.MustParse("11111111-0000-4000-8000-000000000000")
	epoch2 = uuid.MustParse("22222222-0000-4000-8000-000000000000")
	// t0 is the first instant of an hour.
	t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

func submission(arrival time.Time, windows ...*worktallypb.Window) Submission {
	return Submission{
		WorkspaceID: wsA, AgentName: "main", OwnerID: owner, TemplateName: "go",
		Arrival: arrival, Interval: 30 * time.Second, Windows: windows,
	}
}

// window has totals for the given values of the series a, b, ...; none without values.
func window(epoch uuid.UUID, seq uint64, values ...float64) *worktallypb.Window {
	w := &worktallypb.Window{
		Sequence: seq, Epoch: epoch[:], WorkspaceId: wsA[:], AgentName: "main",
		Length: durationpb.New(30 * time.Second), Age: durationpb.New(0), Gauges: &worktallypb.Gauges{ConnectionCount: int64(seq)},
	}
	w.Totals = series(values...)
	return w
}

func series(values ...float64) []*worktallypb.Series {
	var list []*worktallypb.Series
	for i, v := range values {
		list = append(list, &worktallypb.Series{Name: string(rune('a'+i)) + "_total", Labels: []string{"path", "tcp"}, Value: v})
	}
	return list
}

func withApp(w *worktallypb.Window, app string, age, length time.Duration) *worktallypb.Window {
	w.Gauges.Sessions = append(w.Gauges.Sessions, &worktallypb.OpenSessions{AppName: app, Family: "ssh", Count: 1})
	w.Age, w.Length = durationpb.New(age), durationpb.New(length)
	return w
}

// value reads a counter.
func value(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func wantRefused(t *testing.T, out Outcome, want ...string) {
	t.Helper()
	var got []string
	for _, a := range out.Acknowledged {
		got = append(got, a.GetRefused())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("refusals (-want +got):\n%s", diff)
	}
}

func wantSeries(t *testing.T, what string, got []*worktallypb.Series, values ...float64) {
	t.Helper()
	if diff := cmp.Diff(series(values...), got, protocmp.Transform()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func (r *running) wantDeployment(values ...float64) {
	r.t.Helper()
	got, err := r.DeploymentTotals(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	got = slices.DeleteFunc(got, isOwn)
	if diff := cmp.Diff(series(values...), got, protocmp.Transform()); diff != "" {
		r.t.Errorf("deployment totals (-want +got):\n%s", diff)
	}
}

// isOwn tells what the ledger counts from what agents report.
func isOwn(s *worktallypb.Series) bool { return s.Name == SkippedWindows || s.Name == LateWindows }

// loaded returns what Load says about agent main of wsA.
// loaded is the agent as it is read with all others, and alone.
func (r *running) loaded() Latest {
	r.t.Helper()
	var found Latest
	err := r.Load(context.Background(), func(l Latest) error {
		if l.WorkspaceID == wsA && l.AgentName == "main" {
			found = l
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	one, known, err := r.LoadOne(context.Background(), wsA, "main")
	if diff := cmp.Diff(found, one, protocmp.Transform()); err != nil || !known || diff != "" {
		r.t.Errorf("one agent: %t, %v (-all +one):\n%s", known, err, diff)
	}
	return found
}

func TestLedger_TotalsAndResends(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		r := start(t, dsn, Options{})
		out := r.commit(submission(t0, window(epoch1, 1, 10, 0)))
		wantRefused(t, out, "")
		if !out.Newest {
			t.Error("the first window is not the newest")
		}
		r.commit(submission(t0.Add(30*time.Second), window(epoch1, 4, 15, 1))) // 2 and 3 were skipped
		for range 2 {
			out = r.commit(submission(t0.Add(40*time.Second), window(epoch1, 4, 15, 1)))
			wantRefused(t, out, "")
			if out.Newest {
				t.Error("a resend is the newest")
			}
		}
		out = r.commit(submission(t0.Add(41*time.Second), window(epoch1, 2, 12, 0))) // late, older
		wantRefused(t, out, "")
		wantSeries(t, "totals", out.Latest.Totals, 15, 1)
		r.wantDeployment(15, 1)
		for seq, id := range map[uint64]uuid.UUID{4: epoch1, 0: epoch2} {
			if got, err := r.LastSequence(t.Context(), wsA, "main", id); err != nil || got != seq {
				t.Errorf("last sequence = %d, %v; want %d", got, err, seq)
			}
		}
		if diff := cmp.Diff(out.Latest, r.loaded(), protocmp.Transform()); diff != "" {
			t.Errorf("Load differs from the outcome (-outcome +load):\n%s", diff)
		}
	})
}

func TestLedger_Refusals(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		reg := prometheus.NewRegistry()
		r := start(t, dsn, Options{Registerer: reg})
		r.commit(submission(t0, window(epoch1, 10, 10, 5)))
		doubled := window(epoch1, 11, 10, 5)
		doubled.Totals = append(doubled.Totals, doubled.Totals[0])
		short := window(epoch1, 11, 20)
		short.Epoch = short.Epoch[:15]
		for _, c := range []struct {
			name, want string
			w          *worktallypb.Window
		}{
			{"a total fell", RefusedTotalsFell, window(epoch1, 11, 11, 4)},
			{"a total is no number", RefusedTotalsFell, window(epoch1, 11, 11, math.NaN())},
			{"a total is infinite", RefusedTotalsFell, window(epoch1, 11, 11, math.Inf(1))},
			{"a new total is negative", RefusedTotalsFell, window(epoch1, 11, 11, 5, -1)},
			{"the sequence is zero", RefusedBadSequence, window(epoch1, 0, 11, 6)},
			{"the sequence does not fit", RefusedBadSequence, window(epoch1, math.MaxInt64+1, 11, 6)},
			{"the sequence jumps absurdly", RefusedBadSequence, window(epoch1, 12+1<<26, 11, 6)},
			{"the epoch is zero", RefusedBadEpoch, window(uuid.UUID{}, 1, 11, 6)},
			{"the epoch is short", RefusedBadEpoch, short},
			{"a series comes twice", RefusedDuplicate, doubled},
		} {
			t.Run(c.name, func(t *testing.T) {
				out := r.commit(submission(t0.Add(time.Minute), c.w))
				wantRefused(t, out, c.want)
				if out.Newest {
					t.Error("a refused window became the newest")
				}
				wantSeries(t, "totals", out.Latest.Totals, 10, 5)
			})
		}
		many := make([]float64, maxSeries+1)
		wantRefused(t, r.commit(submission(t0.Add(time.Minute), window(epoch2, 1, many...))), RefusedTooManySeries)
		// The rest of a submission counts even if its first window is refused.
		out := r.commit(submission(t0.Add(time.Minute), window(epoch1, 12, 1, 1), window(epoch1, 11, 12, 5)))
		wantRefused(t, out, RefusedTotalsFell, "")
		r.wantDeployment(12, 5)
		if got := value(t, r.metrics.refused.WithLabelValues(RefusedTotalsFell)); got != 5 {
			t.Errorf("%v windows counted as refused for totals that fell, want 5", got)
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
			t.Errorf("metrics: %v %v", problems, err)
		}
	})
}

func TestLedger_SeriesComeAndGo(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		r := start(t, dsn, Options{})
		r.commit(submission(t0, window(epoch1, 1, 10, 5)))
		r.commit(submission(t0.Add(30*time.Second), window(epoch1, 2, 11)))              // b is not reported
		out := r.commit(submission(t0.Add(60*time.Second), window(epoch1, 3, 12, 6, 0))) // b again, c is new and 0
		wantSeries(t, "totals", out.Latest.Totals, 12, 6, 0)
		r.wantDeployment(12, 6, 0)
		wantRefused(t, r.commit(submission(t0.Add(90*time.Second), window(epoch1, 4, 12, 5, 0))), RefusedTotalsFell)
	})
}

func TestLedger_EpochsAddUp(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		r := start(t, dsn, Options{})
		at := t0
		next := func(s Submission) Outcome { at = at.Add(30 * time.Second); s.Arrival = at; return r.commit(s) }
		next(submission(at, window(epoch1, 1, 10)))
		out := next(submission(at, window(epoch2, 1, 3)))
		wantSeries(t, "totals", out.Latest.Totals, 13)
		if out.Latest.Epoch != epoch2 || !out.Newest {
			t.Errorf("a new epoch's window is not the newest: %+v", out)
		}
		late := window(epoch1, 2, 14) // the older epoch still delivers
		late.Age = durationpb.New(5 * time.Minute)
		out = next(submission(at, late))
		wantSeries(t, "totals", out.Latest.Totals, 17)
		if out.Newest || out.Latest.Epoch != epoch2 {
			t.Error("a late window of the older epoch became the newest")
		}
		s := submission(at, window(epoch2, 2, 4))
		s.NoOlderEpochPending = true
		out = next(s)
		wantSeries(t, "totals", out.Latest.Totals, 18)
		out = next(submission(at, window(epoch1, 3, 20)))
		wantRefused(t, out, RefusedClosedEpoch)
		out = next(submission(at, window(epoch2, 3, 5)))
		wantSeries(t, "totals", out.Latest.Totals, 19)
		r.wantDeployment(19)
		if got := r.loaded(); !cmp.Equal(out.Latest, got, protocmp.Transform()) {
			t.Errorf("Load differs: %s", cmp.Diff(out.Latest, got, protocmp.Transform()))
		}
	})
}

func TestLedger_EpochsAreBounded(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		r := start(t, dsn, Options{})
		ids := make([]uuid.UUID, 2*maxEpochs+maxClosedEpochs)
		for i := range ids {
			ids[i] = uuid.New()
			out := r.commit(submission(t0.Add(time.Duration(i)*time.Second), window(ids[i], 1, 1)))
			wantRefused(t, out, "")
			wantSeries(t, "totals", out.Latest.Totals, float64(i+1))
		}
		var open, closed int
		if err := r.db.Reader().QueryRow(`SELECT SUM(1 - closed), SUM(closed) FROM ledger_epochs`).Scan(&open, &closed); err != nil {
			t.Fatal(err)
		}
		if open != maxEpochs || closed != maxClosedEpochs {
			t.Errorf("%d open and %d closed epochs, want %d and %d", open, closed, maxEpochs, maxClosedEpochs)
		}
		newest, oldestOpen := len(ids)-1, len(ids)-maxEpochs
		wantRefused(t, r.commit(submission(t0.Add(time.Hour), window(ids[oldestOpen-1], 2, 5))), RefusedClosedEpoch)
		out := r.commit(submission(t0.Add(time.Hour), window(ids[oldestOpen], 2, 5)))
		wantRefused(t, out, "")
		wantSeries(t, "totals", out.Latest.Totals, float64(newest+1+4))
	})
}

func TestLedger_OlderSessionDeliversTotalsOnly(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		r := start(t, dsn, Options{})
		r.commit(submission(t0, window(epoch1, 1, 10)))
		s := submission(t0.Add(30*time.Second), window(epoch1, 2, 20))
		s.OlderSession = true
		out := r.commit(s)
		if out.Newest || out.Latest.Sequence != 1 || out.Latest.Gauges.GetConnectionCount() != 1 {
			t.Errorf("the older session moved the gauges: %+v", out.Latest)
		}
		wantSeries(t, "totals", out.Latest.Totals, 20)
	})
}

func TestLedger_TimesAreClamped(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		r := start(t, dsn, Options{})
		out := r.commit(submission(t0, window(epoch1, 1, 1)))
		if !out.Latest.End.Equal(t0) || out.Latest.Length != 30*time.Second {
			t.Errorf("end %v, length %v", out.Latest.End, out.Latest.Length)
		}
		w := window(epoch1, 2, 2)
		w.Age = durationpb.New(time.Hour) // before the previous end
		out = r.commit(submission(t0.Add(10*time.Second), w))
		if !out.Latest.End.Equal(t0) || out.Latest.Length != 0 {
			t.Errorf("end %v, length %v; want the previous end and 0", out.Latest.End, out.Latest.Length)
		}
		w = window(epoch1, 3, 3)
		w.Age = durationpb.New(-time.Hour) // in the future
		out = r.commit(submission(t0.Add(20*time.Second), w))
		if !out.Latest.End.Equal(t0.Add(20*time.Second)) || out.Latest.Length != 20*time.Second {
			t.Errorf("end %v, length %v; want the arrival and 20s", out.Latest.End, out.Latest.Length)
		}
		w = window(epoch1, 4, 4)
		w.Age, w.Length = &durationpb.Duration{Seconds: math.MinInt64}, &durationpb.Duration{Seconds: math.MaxInt64, Nanos: -1}
		out = r.commit(submission(t0.Add(30*time.Second), w))
		wantRefused(t, out, "")
	})
}

func TestLedger_RecentWindowsAreTheNewestOnes(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		r := start(t, dsn, Options{})
		var out Outcome
		for i := range 5 {
			w := window(epoch1, uint64(i+1), 1)
			w.WindowRxBytes, w.WindowTxBytes = uint64(i), uint64(10*i)
			late := window(epoch1, uint64(i+1))
			late.Age, late.WindowRxBytes = durationpb.New(10*time.Second), 1000
			late.Sequence = 100
			out = r.commit(submission(t0.Add(time.Duration(i)*25*time.Second), w, late))
		}
		want := []RecentWindow{
			{t0.Add(50 * time.Second), 2, 20}, {t0.Add(75 * time.Second), 3, 30}, {t0.Add(100 * time.Second), 4, 40},
		}
		if diff := cmp.Diff(want, out.Latest.Recent); diff != "" {
			t.Errorf("recent (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, r.loaded().Recent); diff != "" {
			t.Errorf("recent after a restart (-want +got):\n%s", diff)
		}
	})
}

func TestLedger_History(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		r := start(t, dsn, Options{})
		at := t0.Add(58 * time.Minute)
		// Five minutes of use over an hour's end, in windows of 30 s.
		for i := range 10 {
			at = at.Add(30 * time.Second)
			r.commit(submission(at, withApp(window(epoch1, uint64(i+1), 1), "ssh", 0, 30*time.Second)))
		}
		// A late window before, twice, with another app; and an ancient one.
		for range 2 {
			r.commit(submission(at,
				withApp(window(epoch1, 3), "vscode", at.Sub(t0.Add(10*time.Minute)), 3*time.Minute),
				withApp(window(epoch1, 2), "vscode", retention+time.Hour, 3*time.Minute)))
		}
		closed := withApp(window(epoch1, 11), "cursor", 0, time.Hour)
		closed.Gauges.Sessions[0].Count = 0
		r.commit(submission(at, closed))
		var got []HistoryRow
		collect := func(h HistoryRow) error { got = append(got, h); return nil }
		if err := r.History(t.Context(), t0, t0.Add(2*time.Hour), collect); err != nil {
			t.Fatal(err)
		}
		row := HistoryRow{WorkspaceID: wsA, AgentName: "main", OwnerID: owner, TemplateName: "go"}
		first, second := row, row
		first.Hour, first.Minutes = t0, map[string]uint64{"ssh": 1 << 59, "vscode": 0b111 << 8}
		second.Hour, second.Minutes = t0.Add(time.Hour), map[string]uint64{"ssh": 0b1111}
		if diff := cmp.Diff([]HistoryRow{first, second}, got); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
		got = nil
		if err := r.History(t.Context(), t0.Add(time.Second), t0.Add(time.Hour), collect); err != nil || got != nil {
			t.Errorf("history of no whole hour: %v, %v", got, err)
		}
		if got := value(t, r.metrics.dropped.WithLabelValues(droppedHistory)); got != 2 {
			t.Errorf("%v ancient windows counted, want 2", got)
		}
		if n, err := r.Purge(t.Context(), t0.Add(retention)); err != nil || n != 0 {
			t.Errorf("purged %d, %v; want 0", n, err)
		}
		if n, err := r.Purge(t.Context(), t0.Add(retention+90*time.Minute)); err != nil || n != 1 {
			t.Errorf("purged %d, %v; want 1", n, err)
		}
	})
}

func TestLedger_StockAgents(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		r := start(t, dsn, Options{})
		at := t0
		report := func(deltas, counters []float64) Outcome {
			at = at.Add(30 * time.Second)
			s := submission(at)
			added := series(deltas...)
			for _, d := range added {
				d.Name = "rx_" + d.Name
			}
			s.Stock = &StockReport{RxBytes: 7, TxBytes: 8, Added: added, Counters: series(counters...),
				Gauges: &worktallypb.Gauges{Sessions: []*worktallypb.OpenSessions{{AppName: "ssh", Count: 2}}}}
			out := r.commit(s)
			if again := r.commit(s); again.Newest { // a retry of the same submission
				t.Error("a retry was counted")
			}
			return out
		}
		report([]float64{5}, []float64{100})
		report([]float64{5}, []float64{110})
		report([]float64{0}, []float64{30}) // a restart
		out := report([]float64{1, math.NaN()}, []float64{30, 2})
		want := map[string]float64{"rx_a_total": 11, "a_total": 140, "b_total": 2}
		check := func(list []*worktallypb.Series) {
			t.Helper()
			got := map[string]float64{}
			for _, s := range list {
				got[s.Name] = s.Value
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("totals (-want +got):\n%s", diff)
			}
		}
		check(out.Latest.Totals)
		total, err := r.DeploymentTotals(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		check(total)
		if !out.Newest || out.Latest.Length != 30*time.Second || len(out.Latest.Recent) != 2 || out.Latest.Recent[0].RxBytes != 7 {
			t.Errorf("latest: %+v", out.Latest)
		}
		// The same workspace gets one of our agents, then a stock one again.
		at = at.Add(30 * time.Second)
		want["a_total"] += 9
		check(r.commit(submission(at, window(epoch1, 1, 9))).Latest.Totals)
		want["a_total"] += 1
		out = report(nil, []float64{31, 2})
		check(out.Latest.Totals)
		check(r.loaded().Totals)
		var minutes uint64
		if err := r.History(t.Context(), t0, t0.Add(time.Hour), func(h HistoryRow) error { minutes = h.Minutes["ssh"]; return nil }); err != nil {
			t.Fatal(err)
		}
		if minutes != 0b1110 { // the report that arrived at 12:03:00 covers 12:02:30 to 12:03:00
			t.Errorf("minutes %b", minutes)
		}
	})
}

func TestLedger_ForgetWorkspace(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		r := start(t, dsn, Options{})
		r.commit(submission(t0, window(epoch1, 1, 10)))
		other := submission(t0, window(epoch1, 1, 10))
		other.WorkspaceID = wsB
		r.commit(other)
		if err := r.ForgetWorkspace(t.Context(), wsA); err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := r.Load(t.Context(), func(Latest) error { n++; return nil }); err != nil || n != 1 {
			t.Errorf("%d agents, %v; want 1", n, err)
		}
		if _, known, err := r.LoadOne(t.Context(), wsA, "main"); known || err != nil {
			t.Errorf("a forgotten agent: %t, %v", known, err)
		}
		r.wantDeployment(20)
		if seq, _ := r.LastSequence(t.Context(), wsA, "main", epoch1); seq != 0 {
			t.Errorf("sequence %d of a forgotten agent", seq)
		}
		// What was under way when it was deleted comes now.
		late := submission(t0.Add(time.Minute), window(epoch1, 2, 11))
		late.NoOlderEpochPending = true
		wantRefused(t, r.commit(late), RefusedForgotten)
		late = submission(t0.Add(time.Minute))
		late.AgentName, late.Stock = "second", &StockReport{Added: series(5)}
		r.commit(late)
		r.wantDeployment(20)
		if _, err := r.Purge(t.Context(), time.Now().Add(retention+time.Hour)); err != nil {
			t.Fatal(err)
		}
		if err := r.db.Reader().QueryRow(`SELECT COUNT(*) FROM ledger_forgotten`).Scan(&n); err != nil || n != 0 {
			t.Errorf("%d deleted workspaces are remembered for ever, error %v", n, err)
		}
		boom := errors.New("boom")
		if err := r.Load(t.Context(), func(Latest) error { return boom }); !errors.Is(err, boom) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestLedger_OneBadSubmissionFailsAlone(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		db, err := sqldb.Open(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		l, err := Open(t.Context(), db, Options{})
		if err != nil {
			t.Fatal(err)
		}
		bad := submission(t0, window(epoch1, 1, 5))
		bad.AgentName = "bad"
		bad.Windows[0].Totals[0].Labels[1] = "\xff" // cannot be marshalled
		subs := []Submission{submission(t0, window(epoch1, 1, 10)), bad, submission(t0.Add(time.Second), window(epoch1, 2, 12))}
		errs := commitTogether(t, l, subs)
		if errs[0] != nil || errs[2] != nil || errs[1] == nil {
			t.Errorf("errors %v; want only the second", errs)
		}
		total, err := l.DeploymentTotals(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantSeries(t, "deployment", total, 12)
	})
}

func TestLedger_GroupsShareTransactions(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		db, err := sqldb.Open(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		l, err := Open(t.Context(), db, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var subs []Submission
		for i := range 3 * groupSize {
			s := submission(t0, window(epoch1, 1, 1))
			s.WorkspaceID = uuid.New()
			s.Arrival = t0.Add(time.Duration(i))
			subs = append(subs, s)
		}
		for _, err := range commitTogether(t, l, subs) {
			if err != nil {
				t.Error(err)
			}
		}
		if got := value(t, l.metrics.commits); got != 3 {
			t.Errorf("%v transactions, want 3", got)
		}
		if got := value(t, l.metrics.submissions); got != float64(len(subs)) {
			t.Errorf("%v submissions, want %d", got, len(subs))
		}
	})
}

// commitTogether queues submissions before the writer starts, in order, stops
// the writer when all are answered, and returns their errors.
func commitTogether(t *testing.T, l *Ledger, subs []Submission) []error {
	t.Helper()
	errs := make([]error, len(subs))
	answered := make(chan struct{})
	for i, s := range subs {
		go func() {
			_, errs[i] = l.Commit(context.Background(), s)
			answered <- struct{}{}
		}()
		poll(t, "the submission is queued", func() bool { return len(l.queue) == i+1 })
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	for range subs {
		<-answered
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return errs
}

func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10s in vain: %s", what)
		}
		time.Sleep(50 * time.Microsecond)
	}
}

func TestLedger_StopCommitsWhatWaits(t *testing.T) {
	db, err := sqldb.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l, err := Open(t.Context(), db, Options{})
	if err != nil {
		t.Fatal(err)
	}
	// A caller that gives up before the writer runs leaves nothing behind.
	gone, cancel := context.WithCancel(context.Background())
	result := make(chan error)
	go func() { _, err := l.Commit(gone, submission(t0, window(epoch2, 1, 1000))); result <- err }()
	poll(t, "the first submission is queued", func() bool { return len(l.queue) == 1 })
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	go func() { _, err := l.Commit(context.Background(), submission(t0, window(epoch1, 1, 7))); result <- err }()
	poll(t, "the second submission is queued", func() bool { return len(l.queue) == 2 })
	// The writer takes both although its context ends while it starts.
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	if err := <-result; err != nil {
		t.Errorf("err = %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := l.Run(ctx); err == nil {
		t.Error("a second Run was accepted")
	}
	if _, err := l.Commit(t.Context(), submission(t0, window(epoch1, 2, 8))); !errors.Is(err, ErrClosed) {
		t.Errorf("after the stop: err = %v, want ErrClosed", err)
	}
	total, err := l.DeploymentTotals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantSeries(t, "deployment", total, 7)
}

func TestLedger_DeploymentSeriesAreBounded(t *testing.T) {
	r := start(t, filepath.Join(t.TempDir(), "test.db"), Options{})
	r.commit(submission(t0, window(epoch1, 1, 10))) // the writer has read its keys
	for i := range maxDeployment {
		r.deployment[totalKey{"x", uuid.UUID{byte(i), byte(i >> 8), byte(i >> 16)}.String()}] = struct{}{}
	}
	r.commit(submission(t0.Add(time.Second), window(epoch1, 2, 11, 5)))
	r.wantDeployment(11)
	if got := value(t, r.metrics.dropped.WithLabelValues(droppedDeployment)); got != 1 {
		t.Errorf("%v series counted as dropped, want 1", got)
	}
}
