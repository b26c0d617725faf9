package catalog

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestCatalog_Import(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx, ws, template, build := t.Context(), uuid.New(), uuid.New(), uuid.New()
		began := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
		items := []ImportItem{
			{User: &ImportUser{Username: "bob", Email: "bob@example.com"}},
			{User: &ImportUser{Username: "bad name"}}, // 1
			{User: &ImportUser{Username: "ann", Email: "ann@example.com", Admin: true}},
			{}, // 3
			{Template: &TemplateInfo{ID: template, Name: "go"}},
			{TemplateVersion: &TemplateVersion{ID: uuid.New(), TemplateID: uuid.New(), Name: "v"}}, // 5
			{Workspace: &ImportWorkspace{ID: ws, Owner: "bob", Name: "w", Template: Template{"go", "v1"}, CreatedAt: began, Agents: []ImportAgent{{"main"}, {"second"}, {"main"}},
				Build: &Build{ID: build, Number: 12, Transition: TransitionStart, Status: StatusSucceeded, StartedAt: began, EndedAt: began.Add(time.Minute)}}},
			{Workspace: &ImportWorkspace{Owner: "nobody", Name: "w"}},              // 7
			{Workspace: &ImportWorkspace{ID: ws, Owner: "ann", Name: "w"}},         // 8: another owner
			{Workspace: &ImportWorkspace{ID: uuid.New(), Owner: "bob", Name: "w"}}, // 9: another id
			{Workspace: &ImportWorkspace{Owner: "ann", Name: "small", Agents: []ImportAgent{{"main"}, {"more"}}}},
			{Build: &Build{ID: uuid.New(), WorkspaceID: uuid.New(), Transition: TransitionStop}},                          // 11
			{Workspace: &ImportWorkspace{Owner: "bob", Name: "x", Build: &Build{ID: build, Transition: TransitionStart}}}, // 12: that build is another's
			{Job: &Job{ID: uuid.New(), Provisioner: "terraform", Status: StatusRunning}},
			{User: &ImportUser{Username: "zoe"}, Job: &Job{ID: uuid.New()}}, // 14
		}
		wrong := map[int]error{1: ErrInvalid, 3: ErrInvalid, 5: ErrNotFound, 7: ErrNotFound, 8: ErrExists, 9: ErrExists, 11: ErrNotFound, 12: ErrExists, 14: ErrInvalid}
		for round := range 2 {
			done, err := f.Import(ctx, items)
			must(t, err)
			for i, err := range done.Errors {
				if want := wrong[i]; !errors.Is(err, want) || (want == nil) != (err == nil) {
					t.Errorf("round %d, item %d: %v, want %v", round, i, err, want)
				}
			}
			if created, changed := len(done.Created), len(done.Changed); round == 0 && (created != 1 || changed != 1) || round == 1 && created+changed != 0 {
				t.Errorf("round %d: %d created, %d changed", round, created, changed)
			}
		}
		w, err := f.WorkspaceByName(ctx, "bob", "w")
		must(t, err)
		if w.ID != ws || len(w.Agents) != 2 || !w.CreatedAt.Equal(began) || w.Template.Name != "go" {
			t.Errorf("workspace %+v", w)
		}
		if _, err := f.WorkspaceByName(ctx, "bob", "x"); !errors.Is(err, ErrNotFound) {
			t.Errorf("half an item was stored: %v", err)
		}
		small, err := f.Workspace(ctx, f.ws.ID)
		must(t, err)
		if diff := cmp.Diff(f.ws.Agents[0], small.Agents[0]); diff != "" || len(small.Agents) != 2 || small.Template != f.ws.Template {
			t.Errorf("workspace that was there: %+v\n%s", small, diff)
		}
		ann, err := f.UserByToken(ctx, f.userToken)
		must(t, err)
		if ann.Admin || ann.Email != "ann@example.com" {
			t.Errorf("user that was there: %+v", ann)
		}
		f.wantTotals(map[string]int64{"bob w go v1 start success": 1})
	})
}

func TestCatalog_ImportRenames(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		done, err := f.Import(t.Context(), []ImportItem{{Workspace: &ImportWorkspace{ID: f.ws.ID, Owner: "ann", Name: "other"}}})
		must(t, err)
		if diff := cmp.Diff(Imported{Errors: []error{nil}, Changed: []uuid.UUID{f.ws.ID}}, done); diff != "" {
			t.Errorf("imported (-want +got):\n%s", diff)
		}
		w, err := f.WorkspaceByName(t.Context(), "ann", "other")
		must(t, err)
		if w.Template != f.ws.Template {
			t.Errorf("template %+v", w.Template)
		}
	})
}

// TestCatalog_ImportIsFast: 10,000 workspaces with an agent and a build each, in the
// batches of the API. The bounds are generous, because other tests run at the same
// time; alone it takes a fifth of them, and less.
func TestCatalog_ImportIsFast(t *testing.T) {
	workspaces, batch, bound := 10_000, 500, 20*time.Second
	if testing.Short() || raceEnabled {
		workspaces = 1000
	}
	if raceEnabled {
		bound = 2 * time.Minute
	}
	onBoth(t, func(t *testing.T, f *fixture) {
		var items []ImportItem
		for i := range workspaces {
			items = append(items, ImportItem{Workspace: &ImportWorkspace{ID: uuid.New(), Owner: "ann", Name: fmt.Sprint("w", i), Template: Template{"go", "v1"}, Agents: []ImportAgent{{"main"}},
				Build: &Build{ID: uuid.New(), Number: 3, Transition: TransitionStart, Provisioner: "terraform", Status: StatusSucceeded, StartedAt: time.Now().Add(-time.Hour)}}})
		}
		for _, what := range []string{"new", "known"} {
			began := time.Now()
			for i := 0; i < workspaces; i += batch {
				done, err := f.Import(t.Context(), items[i:i+batch])
				must(t, errors.Join(append(done.Errors, err)...))
			}
			took := time.Since(began)
			t.Logf("%d %s workspaces in %s", workspaces, what, took)
			if took > bound {
				t.Errorf("%d %s workspaces took %s", workspaces, what, took)
			}
		}
		counts, err := f.Counts(t.Context())
		must(t, err)
		if counts.Builds[0].Value != float64(workspaces) {
			t.Errorf("counts %+v", counts.Builds)
		}
	})
}
