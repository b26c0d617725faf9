package catalog

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

// put stores an event about a build of the fixture's workspace.
func (f *fixture) put(b Build) Build {
	f.t.Helper()
	out, err := f.PutBuild(f.t.Context(), b)
	must(f.t, err)
	return out
}

// totals are the builds that ended, of all workspaces that are shown, by what the
// labels say.
func (f *fixture) totals(now time.Time) map[string]int64 {
	f.t.Helper()
	out := make(map[string]int64)
	must(f.t, f.BuildTotals(f.t.Context(), now, func(b BuildTotal) error {
		if b.Shown {
			out[strings.Join([]string{b.Owner, b.Workspace, b.Template.Name, b.Template.Version, string(b.Transition), b.Result}, " ")] += b.Value
		}
		return nil
	}))
	return out
}

func (f *fixture) wantTotals(want map[string]int64) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.totals(time.Now())); diff != "" {
		f.t.Errorf("totals (-want +got):\n%s", diff)
	}
}

func TestCatalog_BuildLife(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx, id, now := t.Context(), uuid.New(), time.Now()
		f.now = func() time.Time { return now } // it takes no time
		b := f.put(Build{ID: id, WorkspaceID: f.ws.ID, Transition: TransitionStart, Provisioner: "terraform", Status: StatusRunning})
		if b.Number != 1 || b.Template != f.ws.Template || b.Status != StatusRunning || b.StartedAt.IsZero() || !b.EndedAt.IsZero() {
			t.Errorf("build %+v", b)
		}
		f.wantTotals(map[string]int64{"ann small go v1 start success": 0, "ann small go v1 start failed": 0})
		running, err := f.RunningJobs(ctx, time.Now())
		must(t, err)
		if running["terraform"] != 1 {
			t.Errorf("running %v", running)
		}
		running, err = f.RunningJobs(ctx, time.Now().Add(25*time.Hour))
		must(t, err)
		if len(running) != 0 {
			t.Errorf("running after a day: %v", running)
		}
		ended := f.put(Build{ID: id, Status: StatusSucceeded})
		for _, late := range []Status{StatusPending, StatusRunning, StatusCanceling, StatusFailed, StatusSucceeded, ""} {
			if again := f.put(Build{ID: id, Status: late}); !cmp.Equal(ended, again) {
				t.Errorf("after a late %q:\n%s", late, cmp.Diff(ended, again))
			}
		}
		f.wantTotals(map[string]int64{"ann small go v1 start success": 1, "ann small go v1 start failed": 0})
		counts, err := f.Counts(ctx)
		must(t, err)
		if diff := cmp.Diff([]BuildCount{{TransitionStart, "success", 1}}, counts.Builds); diff != "" {
			t.Errorf("counts (-want +got):\n%s", diff)
		}
		if len(counts.Timings) != 1 || counts.Timings[0].Buckets[0] != 1 {
			t.Errorf("timings %+v", counts.Timings)
		}
		read, err := f.Build(ctx, id)
		must(t, err)
		if diff := cmp.Diff(ended, read); diff != "" {
			t.Errorf("read (-want +got):\n%s", diff)
		}
		if running, err = f.RunningJobs(ctx, time.Now()); err != nil || len(running) != 0 {
			t.Errorf("running %v %v", running, err)
		}
	})
}

func TestCatalog_BuildFinishedBeforeItStarted(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		id, began := uuid.New(), time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
		f.put(Build{ID: id, WorkspaceID: f.ws.ID, Number: 7, Transition: TransitionStop, Provisioner: "p", Status: StatusFailed, EndedAt: began.Add(20 * time.Second)})
		counts, err := f.Counts(t.Context())
		must(t, err)
		if len(counts.Timings) != 0 {
			t.Errorf("a duration of which no start is known: %+v", counts.Timings)
		}
		b := f.put(Build{ID: id, WorkspaceID: f.ws.ID, Number: 7, Transition: TransitionStop, Status: StatusRunning, CreatedAt: began, StartedAt: began})
		if b.Status != StatusFailed || !b.StartedAt.Equal(began) || !b.CreatedAt.Equal(began) {
			t.Errorf("build %+v", b)
		}
		counts, err = f.Counts(t.Context())
		must(t, err)
		want := []JobTiming{{Provisioner: "p", Result: "failed", Buckets: []float64{0, 0, 1, 0, 0, 0, 0, 0, 0}, Seconds: 20}}
		if diff := cmp.Diff(want, counts.Timings); diff != "" {
			t.Errorf("timings (-want +got):\n%s", diff)
		}
		f.wantTotals(map[string]int64{"ann small go v1 stop failed": 1})
	})
}

func TestCatalog_LatestBuildIsTheHighestNumber(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		latest := func(want ...LatestBuilds) {
			t.Helper()
			got, err := f.LatestBuilds(t.Context())
			must(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("latest (-want +got):\n%s", diff)
			}
		}
		latest()
		f.put(Build{ID: uuid.New(), WorkspaceID: f.ws.ID, Number: 5, Transition: TransitionStart, Status: StatusRunning})
		older := uuid.New()
		f.put(Build{ID: older, WorkspaceID: f.ws.ID, Number: 4, Transition: TransitionStop, Status: StatusPending})
		f.put(Build{ID: older, Status: StatusFailed})
		latest(LatestBuilds{"ann", f.ws.Template, TransitionStart, StatusRunning, 1})
		next := uuid.New()
		if b := f.put(Build{ID: next, WorkspaceID: f.ws.ID, Transition: TransitionDelete, Template: Template{Version: "v2"}}); b.Number != 6 || b.Status != StatusPending {
			t.Errorf("next build %+v", b)
		}
		latest(LatestBuilds{"ann", Template{"go", "v2"}, TransitionDelete, StatusPending, 1})
		f.put(Build{ID: next, Status: StatusSucceeded})
		latest() // it is gone
	})
}

func TestCatalog_BuildContradictions(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		applied, err := f.Apply(t.Context(), f.user, parse(t, "name: second"))
		must(t, err)
		id := uuid.New()
		f.put(Build{ID: id, WorkspaceID: f.ws.ID, Number: 3, Transition: TransitionStart})
		for name, tc := range map[string]struct {
			event Build
			want  error
		}{
			"another workspace":     {Build{ID: id, WorkspaceID: applied.Workspace.ID, Transition: TransitionStart}, ErrExists},
			"another number":        {Build{ID: id, Number: 4}, ErrExists},
			"another transition":    {Build{ID: id, Transition: TransitionStop}, ErrExists},
			"a number twice":        {Build{ID: uuid.New(), WorkspaceID: f.ws.ID, Number: 3, Transition: TransitionStart}, ErrExists},
			"no workspace":          {Build{ID: uuid.New(), Status: StatusSucceeded}, ErrNotFound},
			"an unknown workspace":  {Build{ID: uuid.New(), WorkspaceID: uuid.New(), Transition: TransitionStart}, ErrNotFound},
			"no transition":         {Build{ID: uuid.New(), WorkspaceID: f.ws.ID}, ErrInvalid},
			"a strange transition":  {Build{ID: id, Transition: "START"}, ErrInvalid},
			"a strange status":      {Build{ID: id, Status: "success"}, ErrInvalid},
			"a negative number":     {Build{ID: id, Number: -1}, ErrInvalid},
			"2^53":                  {Build{ID: id, Number: 1 << 53}, ErrInvalid},
			"no id":                 {Build{Status: StatusFailed}, ErrInvalid},
			"a long version":        {Build{ID: id, Template: Template{Version: strings.Repeat("v", 129)}}, ErrInvalid},
			"a strange provisioner": {Build{ID: id, Provisioner: "a b"}, ErrInvalid},
			"a nameless parameter":  {Build{ID: id, Parameters: map[string]string{"": "x"}}, ErrInvalid},
			"NUL in a version":      {Build{ID: id, Template: Template{Version: "\x00"}}, ErrInvalid},
			"a huge parameter":      {Build{ID: id, Parameters: map[string]string{"a": strings.Repeat("x", maxParameterValue+1)}}, ErrInvalid},
		} {
			if _, err := f.PutBuild(t.Context(), tc.event); err == nil {
				t.Errorf("%s is taken", name)
			} else {
				wantErr(t, err, tc.want)
			}
		}
		f.wantTotals(map[string]int64{"ann small go v1 start success": 0, "ann small go v1 start failed": 0})
	})
}

func TestCatalog_ForgottenBuildsNeverCountAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		first := Build{ID: uuid.New(), WorkspaceID: f.ws.ID, Number: 1, Transition: TransitionStart, Status: StatusSucceeded}
		f.put(first)
		for i := range maxBuilds {
			f.put(Build{ID: uuid.New(), WorkspaceID: f.ws.ID, Number: int64(i) + 2, Transition: TransitionStart, Status: StatusSucceeded})
		}
		kept, err := f.Builds(t.Context(), f.ws.ID)
		must(t, err)
		if len(kept) != maxBuilds || kept[0].Number != maxBuilds+1 || kept[maxBuilds-1].Number != 2 {
			t.Errorf("%d builds, %d to %d", len(kept), kept[0].Number, kept[len(kept)-1].Number)
		}
		_, err = f.PutBuild(t.Context(), first)
		wantErr(t, err, ErrForgotten)
		f.wantTotals(map[string]int64{"ann small go v1 start success": maxBuilds + 1})
	})
}

func TestCatalog_SeriesOfAWorkspaceAreBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for i := range maxTotals + 3 {
			f.put(Build{ID: uuid.New(), WorkspaceID: f.ws.ID, Transition: TransitionStart, Template: Template{Version: fmt.Sprint("v", i)}, Status: StatusSucceeded})
		}
		counts, err := f.Counts(t.Context())
		must(t, err)
		if n := len(f.totals(time.Now())); n != maxTotals || counts.Unlisted != 3 || counts.Builds[0].Value != maxTotals+3 {
			t.Errorf("%d series, counts %+v", n, counts)
		}
	})
}

// TestCatalog_DeletedWorkspace: the series ends an hour after the deletion, not
// before; a namesake that lives on inherits, so that a series that is shown never
// falls; what the deployment counted stays for ever.
func TestCatalog_DeletedWorkspace(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		build := func(ws uuid.UUID, transition Transition) {
			f.put(Build{ID: uuid.New(), WorkspaceID: ws, Transition: transition, Status: StatusSucceeded})
		}
		build(f.ws.ID, TransitionStart)
		_, err := f.DeleteWorkspace(ctx, f.ws.ID)
		must(t, err)
		build(f.ws.ID, TransitionDelete) // its end comes after the deletion
		both := map[string]int64{"ann small go v1 start success": 1, "ann small go v1 delete success": 1}
		f.wantTotals(both)
		applied, err := f.Apply(ctx, f.user, parse(t, smallSpec))
		must(t, err)
		build(applied.Workspace.ID, TransitionStart)
		both["ann small go v1 start success"] = 2
		f.wantTotals(both)

		soon, later := time.Now().Add(30*time.Minute), time.Now().Add(2*time.Hour)
		if n, err := f.TidyBuilds(ctx, soon); err != nil || n != 0 {
			t.Errorf("tidied %d, %v", n, err)
		}
		f.wantTotals(both)
		if n, err := f.TidyBuilds(ctx, later); err != nil || n != 1 {
			t.Errorf("tidied %d, %v", n, err)
		}
		f.wantTotals(both)
		_, err = f.DeleteWorkspace(ctx, applied.Workspace.ID)
		must(t, err)
		if got := f.totals(later); len(got) != 0 {
			t.Errorf("two hours after the deletion: %v", got)
		}
		if n, err := f.TidyBuilds(ctx, later); err != nil || n != 1 {
			t.Errorf("tidied %d, %v", n, err)
		}
		var rows int
		must(t, f.db.Reader().QueryRow(`SELECT COUNT(*) FROM catalog_build_totals`).Scan(&rows))
		counts, err := f.Counts(ctx)
		must(t, err)
		if want := []BuildCount{{TransitionDelete, "success", 1}, {TransitionStart, "success", 2}}; rows != 0 || !cmp.Equal(want, counts.Builds) {
			t.Errorf("%d rows, counts %+v", rows, counts.Builds)
		}
		must(t, f.DeleteUser(ctx, "ann")) // builds are not in the way
	})
}

// TestCatalog_ManyServersCountOnce: servers that share a database get the same events
// at the same moment.
func TestCatalog_ManyServersCountOnce(t *testing.T) {
	dsn := cluster.DSN(t)
	f := newFixture(t, dsn)
	db, err := sqldb.Open(t.Context(), dsn)
	must(t, err)
	defer db.Close()
	other, err := Open(t.Context(), db, Options{})
	must(t, err)
	ids := make([]uuid.UUID, 10)
	for i := range ids {
		ids[i] = uuid.New()
	}
	var wg sync.WaitGroup
	for i := range 6 {
		c := []*Catalog{f.Catalog, other}[i%2]
		wg.Go(func() {
			for n, id := range ids {
				for _, s := range []Status{StatusRunning, StatusSucceeded} {
					if _, err := c.PutBuild(t.Context(), Build{ID: id, WorkspaceID: f.ws.ID, Number: int64(n) + 1, Transition: TransitionStart, Provisioner: "p", Status: s}); err != nil {
						t.Error(err)
					}
					if _, err := c.PutJob(t.Context(), Job{ID: id, Provisioner: "q", Status: s, StartedAt: time.Now().Add(-time.Minute)}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	counts, err := f.Counts(t.Context())
	must(t, err)
	if len(counts.Builds) != 1 || counts.Builds[0].Value != 10 || len(counts.Timings) != 2 {
		t.Fatalf("counts %+v", counts)
	}
	for _, timing := range counts.Timings {
		n := 0.0
		for _, v := range timing.Buckets {
			n += v
		}
		if n != 10 {
			t.Errorf("%g durations of %s", n, timing.Provisioner)
		}
	}
	f.wantTotals(map[string]int64{"ann small go v1 start success": 10, "ann small go v1 start failed": 0})
}

// TestCatalog_TheEpochIsUnknown: 1970 and the year 0 are what a control plane says
// that does not know; they are no duration of half a century, and the same when they
// are read again.
func TestCatalog_TheEpochIsUnknown(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.put(Build{ID: uuid.New(), WorkspaceID: f.ws.ID, Transition: TransitionStart, Provisioner: "terraform", Status: StatusSucceeded,
			StartedAt: time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), EndedAt: time.Now()})
		b := f.put(Build{ID: uuid.New(), WorkspaceID: f.ws.ID, Transition: TransitionStart, Provisioner: "terraform", Status: StatusSucceeded,
			StartedAt: time.Unix(0, 0), EndedAt: time.Unix(0, 0)})
		if !b.StartedAt.IsZero() || time.Since(b.EndedAt) > time.Minute {
			t.Errorf("build %+v", b)
		}
		known, err := f.Build(t.Context(), b.ID)
		must(t, err)
		if diff := cmp.Diff(b, known); diff != "" {
			t.Errorf("read again (-said +read):\n%s", diff)
		}
		counts, err := f.Counts(t.Context())
		must(t, err)
		if len(counts.Timings) != 0 {
			t.Errorf("timings %v", counts.Timings)
		}
	})
}

// TestBuilds_LastNumber: after it there is none, and the workspace goes on.
func TestBuilds_LastNumber(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		last := f.put(Build{ID: uuid.New(), WorkspaceID: f.ws.ID, Number: maxNumber, Transition: TransitionStart, Status: StatusRunning})
		_, err := f.PutBuild(t.Context(), Build{ID: uuid.New(), WorkspaceID: f.ws.ID, Transition: TransitionStop})
		wantErr(t, err, ErrInvalid)
		if b := f.put(Build{ID: last.ID, Status: StatusSucceeded}); b.Number != maxNumber || b.Status != StatusSucceeded {
			t.Errorf("the last build is %+v", b)
		}
	})
}
