package controlapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
)

// workspaceOf makes a workspace of ann's and returns its id.
func (f *fixture) workspaceOf(name string) uuid.UUID {
	f.t.Helper()
	var applied Applied
	f.do(f.ann, "POST", v1+"/workspaces", "name: "+name+"\ntemplate: {name: go, version: v1}", 201, &applied)
	return applied.Workspace.ID
}

func TestControl_TemplatesVersionsBuildsJobs(t *testing.T) {
	f := newFixture(t)
	ws, template, version, build, job := f.workspaceOf("dev"), uuid.New(), uuid.New(), uuid.New(), uuid.New()
	path := func(kind string, id uuid.UUID) string { return v1 + "/" + kind + "/" + id.String() }

	f.do(f.admin, "PUT", path("templateversions", version), `{"template_id":"`+template.String()+`","name":"v1"}`, 404, nil)
	f.do(f.admin, "PUT", path("templates", template), `{"name":"go"}`, 200, nil)
	f.do(f.admin, "PUT", path("templateversions", version),
		`{"template_id":"`+template.String()+`","name":"v1","parameters":[{"name":"region","type":"string","safe":true}]}`, 200, nil)
	var versions []catalog.TemplateVersion
	f.do(f.admin, "GET", path("templates", template)+"/versions", "", 200, &versions)
	if len(versions) != 1 || versions[0].ID != version || !versions[0].Parameters[0].Safe {
		t.Errorf("versions %+v", versions)
	}
	f.do(f.admin, "GET", path("templates", template), "", 200, nil)
	f.do(f.admin, "GET", path("templateversions", version), "", 200, nil)
	var templates []catalog.TemplateInfo
	f.do(f.admin, "GET", v1+"/templates", "", 200, &templates)
	if len(templates) != 1 || templates[0].Name != "go" {
		t.Errorf("templates %+v", templates)
	}

	var first, again catalog.Build
	event := `{"workspace_id":"` + ws.String() + `","transition":"start","provisioner":"terraform","status":"running","parameters":{"region":"eu","key":"hidden"}}`
	f.do(f.admin, "PUT", path("builds", build), event, 200, &first)
	f.do(f.admin, "PUT", path("builds", build), event, 200, &again)
	if diff := cmp.Diff(first, again); diff != "" || first.Parameters["key"] != "redacted" || first.Parameters["region"] != "eu" {
		t.Errorf("the same event twice: %+v\n%s", first, diff)
	}
	f.do(f.admin, "PUT", path("builds", build), `{"transition":"stop"}`, 409, nil)
	f.do(f.admin, "PUT", path("builds", build), `{"status":"success"}`, 400, nil)
	f.do(f.admin, "PUT", path("builds", build), `{"id":"`+uuid.NewString()+`"}`, 400, nil)
	f.do(f.admin, "PUT", path("builds", build), `{"colour":"blue"}`, 400, nil)
	f.do(f.admin, "PUT", path("builds", build), `{"status":`, 400, nil)
	f.do(f.admin, "PUT", v1+"/builds/nope", event, 400, nil)
	f.do(f.admin, "PUT", path("builds", uuid.New()), `{"status":"failed"}`, 404, nil)
	f.do(f.ann, "PUT", path("builds", build), event, 403, nil)
	f.do(f.admin, "PUT", path("builds", build), `{"status":"succeeded"}`, 200, &again)
	var builds []catalog.Build
	f.do(f.ann, "GET", v1+"/workspaces/"+ws.String()+"/builds", "", 200, &builds)
	f.do(f.bob, "GET", v1+"/workspaces/"+ws.String()+"/builds", "", 404, nil)
	f.do(f.admin, "GET", path("builds", build), "", 200, &first)
	if len(builds) != 1 || !cmp.Equal(builds[0], first) || !cmp.Equal(again, first) || first.Status != catalog.StatusSucceeded {
		t.Errorf("builds %+v, %+v, %+v", builds, first, again)
	}

	f.do(f.admin, "PUT", path("jobs", job), `{"status":"running"}`, 404, nil)
	f.do(f.admin, "PUT", path("jobs", job), `{"provisioner":"terraform","status":"running"}`, 200, nil)
	f.do(f.admin, "PUT", path("jobs", job), `{"status":"failed"}`, 200, nil)
	f.do(f.admin, "GET", path("jobs", job), "", 200, nil)
	f.do(f.admin, "PUT", path("jobs", uuid.New()), `{"provisioner":"terraform","status":"failed","ended_at":"2020-01-01T00:00:00Z"}`, 410, nil)
	if f.events != 7 {
		t.Errorf("%d events were told, want 7", f.events)
	}
	if f.api.checked < 25 {
		t.Errorf("%d exchanges were compared with the document", f.api.checked)
	}
}

func TestControl_RenamedTemplateEndsOldSeries(t *testing.T) {
	f := newFixture(t)
	ws, template := f.workspaceOf("dev"), uuid.New()
	f.do(f.admin, "PUT", v1+"/templates/"+template.String(), `{"name":"go"}`, 200, nil)
	f.changes = nil
	f.do(f.admin, "PUT", v1+"/templates/"+template.String(), `{"name":"golang"}`, 200, nil)
	if len(f.changes) != 1 || f.changes[0].Workspace.ID != ws || f.changes[0].Workspace.Template.Name != "golang" {
		t.Errorf("changes %+v", f.changes)
	}
	f.do(f.admin, "PUT", v1+"/templates/"+uuid.NewString(), `{"name":"golang"}`, 409, nil)
}

func TestControl_Email(t *testing.T) {
	f := newFixture(t)
	f.do(f.admin, "POST", v1+"/users", `{"username":"zoe","email":"zoe@example.com"}`, 201, nil)
	f.do(f.admin, "PUT", v1+"/users/ann/email", `{"email":"ann@example.com"}`, 204, nil)
	var u User
	f.do(f.ann, "GET", v1+"/users/me", "", 200, &u)
	if u.Email != "ann@example.com" {
		t.Errorf("user %+v", u)
	}
	f.do(f.ann, "PUT", v1+"/users/ann/email", `{"email":""}`, 403, nil)
	f.do(f.admin, "PUT", v1+"/users/ann/email", `{"email":"nothing"}`, 400, nil)
	f.do(f.admin, "PUT", v1+"/users/nobody/email", `{"email":""}`, 404, nil)
	f.do(f.admin, "POST", v1+"/users", `{"username":"yan","email":"nothing"}`, 400, nil)
	f.do(f.admin, "GET", v1+"/users", "", 200, nil)
}

func TestControl_Import(t *testing.T) {
	ws, build := uuid.NewString(), uuid.NewString()
	items := []string{
		`{"user":{"username":"kim","email":"kim@example.com"}}`,
		`{"workspace":{"id":"` + ws + `","owner":"kim","name":"dev","template":{"name":"go"},"agents":[{"name":"main"}],
			"build":{"id":"` + build + `","transition":"start","status":"succeeded"}}}`,
		`{"workspace":{"owner":"nobody","name":"dev"}}`,
		`{"colour":"blue"}`,
		`{"job":{"id":"` + uuid.NewString() + `","provisioner":"terraform"}}`,
	}
	for i := range items {
		items[i] = strings.Join(strings.Fields(items[i]), "")
	}
	for name, body := range map[string]string{
		"lines":                 items[0] + "\n" + items[1] + "\r\n" + items[2] + "\n" + items[3] + "\n" + items[4],
		"a byte order mark":     "\ufeff" + strings.Join(items, "\n"),
		"array":                 " [" + strings.Join(items, ",\n") + "]\n",
		"lines with blank ones": items[0] + "\n" + items[1] + "\n" + items[2] + "\n" + items[3] + "\n\n  \n" + items[4] + "\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			for range 2 {
				var out ImportResult
				f.do(f.admin, "POST", v1+"/import", body, 200, &out)
				if diff := cmp.Diff(map[string]int{"user": 1, "workspace": 1, "job": 1}, out.Stored); diff != "" || out.Failed != 2 || len(out.Errors) != 2 {
					t.Fatalf("stored (-want +got):\n%s%+v", diff, out)
				}
				if out.Errors[0].Line > out.Errors[1].Line {
					t.Errorf("errors %+v", out.Errors)
				}
				lines := map[int]string{out.Errors[0].Line: out.Errors[0].Detail, out.Errors[1].Line: out.Errors[1].Detail}
				if !strings.Contains(lines[3], "nobody") || !strings.Contains(lines[4], "colour") {
					t.Errorf("errors %v", lines)
				}
			}
			w, err := f.catalog.WorkspaceByName(t.Context(), "kim", "dev")
			must(t, err)
			if w.ID.String() != ws || len(w.Agents) != 1 || len(f.changes) != 1 {
				t.Errorf("workspace %+v, %d changes", w, len(f.changes))
			}
			f.do(f.ann, "POST", v1+"/import", body, 403, nil)
		})
	}
}

// TestControl_ImportHostile: bodies that are broken, endless or huge end with an
// answer, and what came before is stored.
func TestControl_ImportHostile(t *testing.T) {
	good := `{"user":{"username":"kim"}}`
	long := `{"user":{"username":"` + strings.Repeat("x", maxItem) + `"}}`
	for _, tc := range []struct {
		name, body string
		status     int
		failed     int
	}{
		{"nothing", "", 200, 0},
		{"blank lines only", "\n \n\n", 200, 0},
		{"an empty array", "[]", 200, 0},
		{"a long line", long + "\n" + good, 200, 1},
		{"two values in a line", good + good + "\n" + good, 200, 1},
		{"no object", "1\n\"a\"\nnull\n" + good, 200, 3},
		{"an empty object", "{}\n" + good, 200, 1},
		{"an array that ends early", "[" + good, 400, 0},
		{"a broken array", "[" + good + ", {]", 400, 0},
		{"something behind the array", "[" + good + "] x", 400, 0},
		{"a long element", "[" + good + "," + long + "]", 200, 1},
		{"a huge element", "[" + good + ",\"" + long + long + long + "\"]", 400, 0},
		{"a long blank in an array", "[" + good + strings.Repeat(" ", 2*maxItem) + "]", 400, 0},
		{"a deep array", "[" + good + "," + strings.Repeat("[", 20000), 400, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			var out ImportResult
			f.do(f.admin, "POST", v1+"/import", tc.body, tc.status, &out)
			if tc.status == 200 && out.Failed != tc.failed {
				t.Errorf("%+v", out)
			}
			_, err := f.catalog.UserByName(t.Context(), "kim")
			if strings.Contains(tc.body, good) != (err == nil) {
				t.Errorf("the good item: %v", err)
			}
		})
	}
}

// FuzzImportItems reads any bytes: it ends, every error names a line, and items are
// no larger than what was read.
func FuzzImportItems(f *testing.F) {
	for _, seed := range []string{"", "[]", "[{}", "{\"user\":{\"username\":\"a\"}}\n\n{", "[{\"job\":{}},{\"build\":{}}]", " \n\t[1,2", "null\n1", "[[[[", "\xff\n\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := newItemReader(strings.NewReader(string(b)))
		if err != nil {
			return
		}
		last := 0
		for n := 0; ; n++ {
			item, err := in.next()
			if _, wrong := err.(itemError); err != nil && !wrong {
				return
			}
			if in.number <= last && n > 0 {
				t.Fatalf("line %d after line %d", in.number, last)
			}
			last = in.number
			if n > len(b) {
				t.Fatalf("%d items of %d bytes", n, len(b))
			}
			if err == nil {
				if _, err := json.Marshal(item); err != nil {
					t.Fatal(err)
				}
				_ = item.Kind()
			}
		}
	})
}

// TestControl_ImportIsStreamed: the server holds a batch, not the body.
func TestControl_ImportIsStreamed(t *testing.T) {
	f := newFixture(t)
	body := &endless{left: 3000}
	req := httptest.NewRequestWithContext(t.Context(), "POST", v1+"/import", body)
	req.Header.Set("Coder-Session-Token", f.admin)
	rec := httptest.NewRecorder()
	f.handler.ServeHTTP(rec, req)
	var out ImportResult
	must(t, json.Unmarshal(rec.Body.Bytes(), &out))
	if rec.Code != 200 || out.Failed != 3000 || len(out.Errors) != maxImportErrors {
		t.Errorf("%d: failed %d, %d errors", rec.Code, out.Failed, len(out.Errors))
	}
	if body.largest > 256<<10 {
		t.Errorf("%d bytes were read at once", body.largest)
	}
}

// endless is a body of lines about workspaces of nobody.
type endless struct{ left, largest int }

func (e *endless) Read(p []byte) (int, error) {
	e.largest = max(e.largest, len(p))
	if e.left == 0 {
		return 0, io.EOF
	}
	e.left--
	return copy(p, `{"workspace":{"owner":"nobody","name":"x"}}`+"\n"), nil
}

// TestControl_ImportRespectsTheLicence: those who are there stay welcome.
func TestControl_ImportRespectsTheLicence(t *testing.T) {
	f := newFixture(t)
	f.handler.o.MayAddUser = func() error { return errors.New("no seat is left") }
	var out ImportResult
	f.do(f.admin, "POST", v1+"/import", `{"user":{"username":"ann","email":"ann@example.com"}}`+"\n"+`{"user":{"username":"kim"}}`, 200, &out)
	if out.Stored["user"] != 1 || out.Failed != 1 || out.Errors[0] != (ImportError{2, "no seat is left"}) {
		t.Errorf("%+v", out)
	}
}
