package rollup

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/catalog"
)

func TestRollup_ZerosBeforeAnythingHappened(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		must(t, f.Refresh(t.Context()))
		page := f.page(f.Rows()...)
		for family, n := range map[string]int{
			"coderd_api_workspace_latest_build": 6, "coderd_api_workspace_latest_build_total": 6, "worktally_builds_total": 6,
			"worktally_builds_unlisted_total": 1, "coderd_provisionerd_jobs_current": 1, "coderd_provisionerd_job_timings_seconds_bucket": 18,
			"coderd_provisionerd_job_timings_seconds_count": 2, "coderd_workspace_builds_total": 0,
		} {
			got := series(page, family)
			if len(got) != n {
				t.Errorf("%s has %d series, want %d: %v", family, len(got), n, got)
			}
			for _, line := range got {
				if !strings.HasSuffix(line, " 0") {
					t.Errorf("not zero: %s", line)
				}
			}
		}
	})
}

func TestRollup_Builds(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		must(t, f.catalog.SetUserEmail(t.Context(), "ann", "ann@example.com"))
		began := time.Now().Add(-time.Hour)
		f.build(f.workspace("ann", "one", "go"), catalog.Build{Transition: catalog.TransitionStart, Template: catalog.Template{Version: "v1"},
			Provisioner: "terraform", Status: catalog.StatusSucceeded, StartedAt: began, EndedAt: began.Add(45 * time.Second)})
		f.build(f.workspace("ann", "two", "go"), catalog.Build{Transition: catalog.TransitionStart, Template: catalog.Template{Version: "v1"}, Status: catalog.StatusSucceeded})
		f.build(f.workspace("bob", "one", ""), catalog.Build{Transition: catalog.TransitionStop, Provisioner: "terraform", Status: catalog.StatusCanceled})
		f.build(f.workspace("bob", "two", "go"), catalog.Build{Transition: catalog.TransitionDelete, Provisioner: "terraform", Status: catalog.StatusRunning})
		f.workspace("bob", "three", "go") // never built
		must(t, f.Refresh(t.Context()))
		page := f.page(f.Rows()...)
		want(t, "builds", series(page, familyBuilds),
			`coderd_workspace_builds_total{action="DESTROY",owner_email="bob",status="failed",template_name="go",template_version="unknown",workspace_name="two",workspace_owner="bob",workspace_transition="DESTROY"} 0`,
			`coderd_workspace_builds_total{action="DESTROY",owner_email="bob",status="success",template_name="go",template_version="unknown",workspace_name="two",workspace_owner="bob",workspace_transition="DESTROY"} 0`,
			`coderd_workspace_builds_total{action="START",owner_email="ann@example.com",status="success",template_name="go",template_version="v1",workspace_name="one",workspace_owner="ann",workspace_transition="START"} 1`,
			`coderd_workspace_builds_total{action="START",owner_email="ann@example.com",status="success",template_name="go",template_version="v1",workspace_name="two",workspace_owner="ann",workspace_transition="START"} 1`,
			`coderd_workspace_builds_total{action="STOP",owner_email="bob",status="failed",template_name="unknown",template_version="unknown",workspace_name="one",workspace_owner="bob",workspace_transition="STOP"} 1`)
		want(t, "latest by owner", series(page, familyLatestStatus),
			`coderd_workspace_latest_build_status{status="canceled",template_name="unknown",template_version="unknown",workspace_owner="bob",workspace_transition="stop"} 1`,
			`coderd_workspace_latest_build_status{status="running",template_name="go",template_version="unknown",workspace_owner="bob",workspace_transition="delete"} 1`,
			`coderd_workspace_latest_build_status{status="succeeded",template_name="go",template_version="v1",workspace_owner="ann",workspace_transition="start"} 2`)
		want(t, "all builds", series(page, familyAll),
			`worktally_builds_total{status="failed",workspace_transition="DESTROY"} 0`,
			`worktally_builds_total{status="failed",workspace_transition="START"} 0`,
			`worktally_builds_total{status="failed",workspace_transition="STOP"} 1`,
			`worktally_builds_total{status="success",workspace_transition="DESTROY"} 0`,
			`worktally_builds_total{status="success",workspace_transition="START"} 2`,
			`worktally_builds_total{status="success",workspace_transition="STOP"} 0`)
		want(t, "running", series(page, familyRunning), `coderd_provisionerd_jobs_current{provisioner="terraform"} 1`)
		failed := func(line string) bool { return strings.Contains(line, `status="failed"`) }
		want(t, "timings", slices.DeleteFunc(series(page, familyTimings+"_bucket"), failed),
			`coderd_provisionerd_job_timings_seconds_bucket{le="+Inf",provisioner="terraform",status="success"} 1`,
			`coderd_provisionerd_job_timings_seconds_bucket{le="1.0",provisioner="terraform",status="success"} 0`,
			`coderd_provisionerd_job_timings_seconds_bucket{le="10.0",provisioner="terraform",status="success"} 0`,
			`coderd_provisionerd_job_timings_seconds_bucket{le="1800.0",provisioner="terraform",status="success"} 1`,
			`coderd_provisionerd_job_timings_seconds_bucket{le="30.0",provisioner="terraform",status="success"} 0`,
			`coderd_provisionerd_job_timings_seconds_bucket{le="300.0",provisioner="terraform",status="success"} 1`,
			`coderd_provisionerd_job_timings_seconds_bucket{le="3600.0",provisioner="terraform",status="success"} 1`,
			`coderd_provisionerd_job_timings_seconds_bucket{le="60.0",provisioner="terraform",status="success"} 1`,
			`coderd_provisionerd_job_timings_seconds_bucket{le="600.0",provisioner="terraform",status="success"} 1`)
		want(t, "sum", series(page, familyTimings+"_sum")[1:], `coderd_provisionerd_job_timings_seconds_sum{provisioner="terraform",status="success"} 45`)
	})
}

// TestDefect_10_11: the deprecated family never grows on its own: it is equal to its
// replacement, refresh after refresh.
func TestDefect10_11_DeprecatedFamilyEqualsItsReplacement(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ws := f.workspace("ann", "one", "go")
		f.build(ws, catalog.Build{Transition: catalog.TransitionStart, Status: catalog.StatusFailed})
		for _, next := range []catalog.Status{catalog.StatusRunning, catalog.StatusSucceeded, catalog.StatusPending} {
			f.build(ws, catalog.Build{Transition: catalog.TransitionStart, Status: next})
			for range 3 {
				must(t, f.Refresh(t.Context()))
			}
			page := f.page(f.Rows()...)
			latest := series(page, familyLatest)
			old := strings.ReplaceAll(strings.Join(series(page, familyLatestOld), "\n"), familyLatestOld, familyLatest)
			if strings.Join(latest, "\n") != old {
				t.Errorf("%q, the deprecated one %q", latest, old)
			}
			sum := 0
			for _, line := range latest {
				if strings.HasSuffix(line, `status="`+string(next)+`"} 1`) {
					sum++
				} else if !strings.HasSuffix(line, " 0") {
					t.Errorf("line %s", line)
				}
			}
			if sum != 1 {
				t.Errorf("latest %v", latest)
			}
		}
	})
}

// TestRollup_LabelModes: labels are those of the mode, and series that become equal
// are summed.
func TestRollup_LabelModes(t *testing.T) {
	for mode, wanted := range map[exposition.LabelMode]string{
		exposition.LabelsSeed: `coderd_workspace_builds_total{action="START",owner_email="we@example.com",status="success",template_name="go",template_version="unknown",workspace_name="one"} 2`,
		exposition.LabelsLive: `coderd_workspace_builds_total{status="success",template_name="go",template_version="unknown",workspace_name="one",workspace_owner="ann",workspace_transition="START"} 1`,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			f := newFixture(t, filepath.Join(t.TempDir(), "test.db"), exposition.NewTableWithoutDeprecated(mode))
			for _, owner := range []string{"ann", "bob"} {
				must(t, f.catalog.SetUserEmail(t.Context(), owner, "we@example.com"))
				f.build(f.workspace(owner, "one", "go"), catalog.Build{Transition: catalog.TransitionStart, Status: catalog.StatusSucceeded})
			}
			must(t, f.Refresh(t.Context()))
			page := f.page(f.Rows()...)
			if got := series(page, familyBuilds); got[0] != wanted {
				t.Errorf("%v, want first %s", got, wanted)
			}
			if got := series(page, familyLatestOld); len(got) != 0 {
				t.Errorf("deprecated: %v", got)
			}
		})
	}
}

// TestRollup_Restart: a new process shows what the last one did.
func TestRollup_Restart(t *testing.T) {
	for name, dsn := range map[string]string{"SQLite": filepath.Join(t.TempDir(), "test.db"), "PostgreSQL": cluster.DSN(t)} {
		t.Run(name, func(t *testing.T) {
			var pages [2][]string
			for i := range pages {
				f := newFixture(t, dsn, exposition.NewTable())
				if i == 0 {
					ws := f.workspace("ann", "one", "go")
					for range 5 {
						f.build(ws, catalog.Build{Transition: catalog.TransitionStart, Provisioner: "p", Status: catalog.StatusSucceeded, StartedAt: time.Now().Add(-time.Minute)})
					}
				}
				must(t, f.Refresh(t.Context()))
				pages[i] = f.page(f.builds.Load())
				f.stop()
				f.stop = nil
			}
			want(t, "page after the restart", pages[1], pages[0]...)
			if len(pages[0]) < 40 {
				t.Errorf("page %v", pages[0])
			}
		})
	}
}

// TestRollup_DatabaseFails: the page keeps the last good rows, and a counter counts.
func TestRollup_DatabaseFails(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.build(f.workspace("ann", "one", "go"), catalog.Build{Transition: catalog.TransitionStart, Status: catalog.StatusSucceeded})
		must(t, f.Refresh(t.Context()))
		before := f.page(f.Rows()...)
		f.stop()
		f.stop = nil
		if err := f.Refresh(t.Context()); err == nil {
			t.Error("refreshed from a closed database")
		}
		want(t, "page", f.page(f.Rows()...), before...)
		for _, part := range []string{partBuilds, partInsights} {
			if n := value(t, f.metrics.failures.WithLabelValues(part)); n != 1 {
				t.Errorf("%g failures of %s", n, part)
			}
		}
	})
}

// TestRollup_SeriesAreBounded: what has no room is left out and told.
func TestRollup_SeriesAreBounded(t *testing.T) {
	f := newFixture(t, filepath.Join(t.TempDir(), "test.db"), exposition.NewTable())
	template, version := uuid.New(), uuid.New()
	f.store(catalog.ImportItem{Template: &catalog.TemplateInfo{ID: template, Name: "go"}},
		catalog.ImportItem{TemplateVersion: &catalog.TemplateVersion{ID: version, TemplateID: template, Name: "v", Parameters: []catalog.Parameter{{Name: "id", Type: "string", Safe: true}}}})
	limit := limits()[familyParameters]
	var items []catalog.ImportItem
	for range limit + 7 {
		items = append(items, catalog.ImportItem{Workspace: &catalog.ImportWorkspace{Owner: "ann", Name: uuid.NewString(), Template: catalog.Template{Name: "go", Version: "v"},
			Build: &catalog.Build{ID: uuid.New(), Transition: catalog.TransitionStart, Parameters: map[string]string{"id": uuid.NewString()}}}})
	}
	f.store(items...)
	must(t, f.Refresh(t.Context()))
	if n := len(series(f.page(f.Rows()...), familyParameters)); n != limit {
		t.Errorf("%d series, want %d", n, limit)
	}
	if n := value(t, f.metrics.dropped.WithLabelValues(familyParameters)); n != 7 {
		t.Errorf("%g dropped", n)
	}
}
