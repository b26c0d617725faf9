package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestCatalog_Templates(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx, id, at := t.Context(), uuid.New(), time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
		put := func(name string, at time.Time, want string, renamed ...uuid.UUID) {
			t.Helper()
			out, got, err := f.PutTemplate(ctx, TemplateInfo{id, name, at})
			must(t, err)
			if out.Name != want || !slices.Equal(renamed, got) {
				t.Errorf("template %+v, renamed %v", out, got)
			}
		}
		f.put(Build{ID: uuid.New(), WorkspaceID: f.ws.ID, Transition: TransitionStart, Status: StatusSucceeded})
		put("go", at, "go")
		put("go", at, "go")
		put("golang", at.Add(time.Minute), "golang", f.ws.ID)
		put("go", at, "golang") // it is late
		ws, err := f.Workspace(ctx, f.ws.ID)
		must(t, err)
		if ws.Template.Name != "golang" {
			t.Errorf("the workspace's template is %q", ws.Template.Name)
		}
		f.wantTotals(map[string]int64{"ann small golang v1 start success": 1})
		_, _, err = f.PutTemplate(ctx, TemplateInfo{ID: uuid.New(), Name: "golang"})
		wantErr(t, err, ErrExists)
		for _, bad := range []TemplateInfo{{Name: "x"}, {ID: id}, {ID: id, Name: "a b"}} {
			_, _, err = f.PutTemplate(ctx, bad)
			wantErr(t, err, ErrInvalid)
		}
		list, err := f.Templates(ctx)
		must(t, err)
		if diff := cmp.Diff([]TemplateInfo{{id, "golang", at.Add(time.Minute)}}, list); diff != "" {
			t.Errorf("templates (-want +got):\n%s", diff)
		}
	})
}

func TestCatalog_TemplateVersions(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx, template, id := t.Context(), uuid.New(), uuid.New()
		v := TemplateVersion{ID: id, TemplateID: template, Name: "v9", Parameters: []Parameter{{"region", "string", true}, {"key", "string", false}}}
		_, err := f.PutTemplateVersion(ctx, v)
		wantErr(t, err, ErrNotFound)
		_, _, err = f.PutTemplate(ctx, TemplateInfo{ID: template, Name: "go"})
		must(t, err)
		for range 2 {
			_, err = f.PutTemplateVersion(ctx, v)
			must(t, err)
		}
		late := v
		late.Parameters, late.UpdatedAt = nil, time.Now().Add(-time.Hour)
		_, err = f.PutTemplateVersion(ctx, late)
		must(t, err)
		list, err := f.TemplateVersions(ctx, template)
		must(t, err)
		if len(list) != 1 || !slices.Equal(list[0].Parameters, v.Parameters) || list[0].Name != "v9" {
			t.Errorf("versions %+v", list)
		}
		_, err = f.PutTemplateVersion(ctx, TemplateVersion{ID: uuid.New(), TemplateID: template, Name: "v9"})
		wantErr(t, err, ErrExists)
		for _, bad := range []TemplateVersion{
			{ID: id, TemplateID: template}, {ID: id, Name: "v"}, {ID: id, TemplateID: template, Name: strings.Repeat("x", 129)},
			{ID: id, TemplateID: template, Name: "v", Parameters: []Parameter{{"a", "secret", true}}},
			{ID: id, TemplateID: template, Name: "v", Parameters: []Parameter{{"a", "bool", true}, {"a", "bool", true}}},
			{ID: id, TemplateID: template, Name: "v", Parameters: make([]Parameter, 65)},
		} {
			_, err = f.PutTemplateVersion(ctx, bad)
			wantErr(t, err, ErrInvalid)
		}
	})
}

// TestCatalog_OnlySafeValuesAreKept: what is not marked safe is not even stored, and
// what no longer is marked so is not shown.
func TestCatalog_OnlySafeValuesAreKept(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx, template, version := t.Context(), uuid.New(), uuid.New()
		_, _, err := f.PutTemplate(ctx, TemplateInfo{ID: template, Name: "go"})
		must(t, err)
		v := TemplateVersion{ID: version, TemplateID: template, Name: "v1", Parameters: []Parameter{{"region", "string", true}, {"key", "number", false}}}
		_, err = f.PutTemplateVersion(ctx, v)
		must(t, err)
		b := f.put(Build{ID: uuid.New(), WorkspaceID: f.ws.ID, Transition: TransitionStart,
			Parameters: map[string]string{"region": "eu\x00" + strings.Repeat("x", 300), "key": "hidden1", "other": "hidden2"}})
		want := map[string]string{"region": "eu\ufffd" + strings.Repeat("x", maxKeptValue-5), "key": Redacted, "other": Redacted}
		if !maps.Equal(want, b.Parameters) {
			t.Errorf("parameters %q", b.Parameters)
		}
		var stored string
		must(t, f.db.Reader().QueryRow(`SELECT parameters FROM catalog_builds WHERE id = $1`, b.ID).Scan(&stored))
		if strings.Contains(stored, "hidden") {
			t.Errorf("stored: %s", stored)
		}
		chosen := func(since time.Time) []ChosenParameter {
			var list []ChosenParameter
			must(t, f.ChosenParameters(ctx, since, func(p ChosenParameter) error { list = append(list, p); return nil }))
			slices.SortFunc(list, func(a, b ChosenParameter) int { return strings.Compare(a.Name, b.Name) })
			return list
		}
		key, other := ChosenParameter{"go", "key", "number", Redacted}, ChosenParameter{"go", "other", "", Redacted}
		if diff := cmp.Diff([]ChosenParameter{key, other, {"go", "region", "string", want["region"]}}, chosen(b.CreatedAt)); diff != "" {
			t.Errorf("chosen (-want +got):\n%s", diff)
		}
		v.Parameters[0].Safe = false
		_, err = f.PutTemplateVersion(ctx, v)
		must(t, err)
		if diff := cmp.Diff([]ChosenParameter{key, other, {"go", "region", "string", Redacted}}, chosen(b.CreatedAt)); diff != "" {
			t.Errorf("chosen (-want +got):\n%s", diff)
		}
		if list := chosen(b.CreatedAt.Add(time.Second)); len(list) != 0 {
			t.Errorf("of builds that are too old: %v", list)
		}
	})
}

func TestCatalog_Jobs(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx, id := t.Context(), uuid.New()
		_, err := f.PutJob(ctx, Job{ID: id, Status: StatusRunning})
		wantErr(t, err, ErrNotFound) // whose is it?
		j, err := f.PutJob(ctx, Job{ID: id, Provisioner: "terraform", Status: StatusRunning})
		must(t, err)
		_, err = f.PutJob(ctx, Job{ID: id, Provisioner: "echo"})
		wantErr(t, err, ErrExists)
		_, err = f.PutJob(ctx, Job{ID: id, Provisioner: "a/b"})
		wantErr(t, err, ErrInvalid)
		old := Job{ID: uuid.New(), Provisioner: "terraform", Status: StatusSucceeded, StartedAt: time.Now().Add(-jobMemory - time.Hour), EndedAt: time.Now()}
		_, err = f.PutJob(ctx, old)
		wantErr(t, err, ErrForgotten)
		if n, err := f.TidyBuilds(ctx, time.Now().Add(jobMemory-time.Hour)); n != 0 || err != nil {
			t.Error(n, err)
		}
		read, err := f.Job(ctx, id)
		must(t, err)
		if diff := cmp.Diff(j, read); diff != "" {
			t.Errorf("job (-want +got):\n%s", diff)
		}
		_, err = f.TidyBuilds(ctx, time.Now().Add(jobMemory+time.Hour))
		must(t, err)
		_, err = f.Job(ctx, id)
		wantErr(t, err, ErrNotFound)
	})
}

func TestCatalog_ProvisionersAreBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for i := range maxProvisioners + 2 {
			now := time.Now()
			_, err := f.PutJob(t.Context(), Job{ID: uuid.New(), Provisioner: fmt.Sprintf("p%02d", i), Status: StatusSucceeded, StartedAt: now, EndedAt: now})
			must(t, err)
		}
		counts, err := f.Counts(t.Context())
		must(t, err)
		if len(counts.Timings) != maxProvisioners+1 || counts.Timings[0].Provisioner != OtherProvisioner || counts.Timings[0].Buckets[0] != 2 {
			t.Errorf("%d provisioners, the first %+v", len(counts.Timings), counts.Timings[0])
		}
	})
}

func TestCatalog_Email(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		must(t, f.SetUserEmail(ctx, "ann", "ann@example.com"))
		u, _, err := f.CreateUserWithEmail(ctx, "bob", "bob@example.com", false)
		must(t, err)
		read, err := f.UserByName(ctx, "bob")
		must(t, err)
		if diff := cmp.Diff(u, read); diff != "" || u.Email != "bob@example.com" {
			t.Errorf("user (-want +got):\n%s", diff)
		}
		wantErr(t, f.SetUserEmail(ctx, "nobody", ""), ErrNotFound)
		for _, bad := range []string{"x", "a@b@c", "a b@c", "a@\n", "\x00@b", strings.Repeat("a", 129) + "@b"} {
			wantErr(t, f.SetUserEmail(ctx, "ann", bad), ErrInvalid)
		}
		must(t, f.SetUserEmail(ctx, "ann", ""))
	})
}
