package controlapi

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

const v1 = "/api/worktally/v1"

// fixture is the API on a catalog with an administrator and two users.
type fixture struct {
	t               *testing.T
	catalog         *catalog.Catalog
	handler         *API
	tailnet         *fakeTailnet
	reg             *prometheus.Registry
	changes         []Change
	admin, ann, bob string // tokens
	api             apiDocument
	events          int // calls of OnEvent
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	db, err := sqldb.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	c, err := catalog.Open(t.Context(), db, catalog.Options{})
	must(t, err)
	f := &fixture{t: t, catalog: c, reg: prometheus.NewRegistry()}
	_, f.admin, _, err = c.EnsureFirstUser(t.Context(), "admin")
	must(t, err)
	_, f.ann, err = c.CreateUser(t.Context(), "ann", false)
	must(t, err)
	_, f.bob, err = c.CreateUser(t.Context(), "bob", false)
	must(t, err)
	f.tailnet = &fakeTailnet{}
	f.handler = New(Options{Catalog: c, Registerer: f.reg, OnChange: func(c Change) { f.changes = append(f.changes, c) }, OnEvent: func() { f.events++ },
		Build: Build{Version: "v1.2.3", AgentAPIVersion: "2.13"}, Tailnet: f.tailnet.options()})
	t.Cleanup(f.handler.Close)
	text, err := json.Marshal(openAPIDocument("", false))
	must(t, err)
	must(t, json.Unmarshal(text, &f.api))
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do sends a request, wants a status, and decodes the answer.
func (f *fixture) do(token, method, path, body string, status int, out any) {
	f.t.Helper()
	req := httptest.NewRequestWithContext(f.t.Context(), method, path, strings.NewReader(body))
	if token != "" {
		req.Header.Set("Coder-Session-Token", token)
	}
	f.send(req, status, out)
}

func (f *fixture) send(req *http.Request, status int, out any) *http.Response {
	f.t.Helper()
	sent, err := io.ReadAll(req.Body)
	must(f.t, err)
	req.Body = io.NopCloser(bytes.NewReader(sent))
	rec := httptest.NewRecorder()
	f.handler.ServeHTTP(rec, req)
	res := rec.Result()
	text, err := io.ReadAll(res.Body)
	must(f.t, err)
	f.api.checkExchange(f.t, req.Pattern, sent, text, res.StatusCode)
	if res.StatusCode != status {
		f.t.Fatalf("%s %s: status %d, want %d: %s", req.Method, req.URL, res.StatusCode, status, text)
	}
	if kind := res.Header.Get("Content-Type"); len(text) > 0 && kind != "application/json; charset=utf-8" && req.URL.Path != "/healthz" {
		f.t.Errorf("%s %s: content type %q", req.Method, req.URL, kind)
	}
	if status >= 400 {
		var p wire.Error
		if err := json.Unmarshal(text, &p); err != nil || p.Message == "" {
			f.t.Errorf("%s %s: error without a message: %s", req.Method, req.URL, text)
		}
	}
	if out != nil {
		must(f.t, json.Unmarshal(text, out))
	}
	return res
}

func TestAPI_Probes(t *testing.T) {
	f := newFixture(t)
	rec := httptest.NewRecorder()
	f.handler.ServeHTTP(rec, httptest.NewRequest("GET", "/healthz", nil))
	if rec.Code != 200 || rec.Body.String() != "OK" {
		t.Errorf("healthz: %d %q", rec.Code, rec.Body)
	}
	var b map[string]any
	f.do("", "GET", "/api/v2/buildinfo", "", 200, &b)
	if b["version"] != "v1.2.3" || b["agent_api_version"] != "2.13" {
		t.Errorf("buildinfo %v", b)
	}
	f.do("", "GET", "/nowhere", "", 404, nil)
	f.do(f.admin, "PATCH", v1+"/users", "", 404, nil)
}

func TestAPI_TokenTransports(t *testing.T) {
	f := newFixture(t)
	for name, set := range map[string]func(*http.Request){
		"header": func(r *http.Request) { r.Header.Set("Coder-Session-Token", f.ann) },
		"cookie": func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "coder_session_token", Value: f.ann}) },
		"bearer": func(r *http.Request) { r.Header.Set("Authorization", "bearer "+f.ann) },
	} {
		t.Run(name, func(t *testing.T) {
			req := httptest.NewRequest("GET", v1+"/users/me", nil)
			set(req)
			var u User
			f.send(req, 200, &u)
			if u.Username != "ann" || u.Admin || u.Token != "" {
				t.Errorf("user %+v", u)
			}
		})
	}
	f.do("", "GET", v1+"/users/me", "", 401, nil)
	f.do("nonsense", "GET", v1+"/users/me", "", 401, nil)
	f.do("", "GET", v1+"/users/me?coder_session_token="+f.ann, "", 401, nil)
}

func TestAPI_OtherSitesAreRefused(t *testing.T) {
	f := newFixture(t)
	req := httptest.NewRequest("POST", v1+"/users/me/token", nil)
	req.AddCookie(&http.Cookie{Name: "coder_session_token", Value: f.ann})
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	f.send(req, 403, nil)
	f.do(f.ann, "GET", v1+"/users/me", "", 200, nil) // the token was not rotated
}

func TestAPI_Users(t *testing.T) {
	f := newFixture(t)
	for _, c := range [][2]string{{"GET", "/users"}, {"POST", "/users"}, {"DELETE", "/users/bob"}, {"POST", "/users/bob/token"}} {
		f.do(f.ann, c[0], v1+c[1], "{}", 403, nil)
	}
	var u User
	f.do(f.admin, "POST", v1+"/users", `{"username": "eve", "admin": true}`, 201, &u)
	if u.Username != "eve" || !u.Admin || u.Token == "" {
		t.Errorf("created %+v", u)
	}
	f.do(u.Token, "GET", v1+"/users", "", 200, nil)
	f.do(f.admin, "POST", v1+"/users", `{"username": "eve"}`, 409, nil)
	for _, bad := range []string{``, `{`, `{"username": "a b"}`, `{"username": "x", "password": "y"}`, `{"username": "x"} {}`} {
		f.do(f.admin, "POST", v1+"/users", bad, 400, nil)
	}
	f.do(f.admin, "POST", v1+"/users", strings.Repeat(" ", maxBody+1), 413, nil)
	var users []User
	f.do(f.admin, "GET", v1+"/users", "", 200, &users)
	if len(users) != 4 || users[3].Token != "" {
		t.Errorf("users %+v", users)
	}
	var fresh Token
	f.do(f.ann, "POST", v1+"/users/me/token", "", 200, &fresh)
	f.do(f.ann, "GET", v1+"/users/me", "", 401, nil)
	f.do(fresh.Token, "GET", v1+"/users/me", "", 200, nil)
	f.do(f.admin, "POST", v1+"/users/ann/token", "", 200, nil)
	f.do(fresh.Token, "GET", v1+"/users/me", "", 401, nil)
	f.do(f.admin, "DELETE", v1+"/users/eve", "", 204, nil)
	f.do(f.admin, "DELETE", v1+"/users/eve", "", 404, nil)
	f.do(f.admin, "DELETE", v1+"/users/me", "", 409, nil)
}

const document = `
name: demo
agents:
  - name: main
    scripts: [{name: a, on: start, script: echo}]
  - name: side
`

func TestAPI_WorkspaceLife(t *testing.T) {
	f := newFixture(t)
	var out Applied
	f.do(f.ann, "POST", v1+"/workspaces", document, 201, &out)
	if !out.Created || out.Workspace.Owner != "ann" || len(out.Tokens) != 2 || out.Workspace.Agents[0].Status != "connecting" {
		t.Fatalf("applied %+v", out)
	}
	id := out.Workspace.ID.String()
	var again Applied
	f.do(f.ann, "POST", v1+"/workspaces", document, 200, &again)
	if again.Created || len(again.Tokens) != 0 || again.Workspace.ID != out.Workspace.ID {
		t.Errorf("applied again %+v", again)
	}
	var got Workspace
	f.do(f.ann, "GET", v1+"/workspaces/"+id, "", 200, &got)
	if diff := cmp.Diff(out.Workspace, got); diff != "" {
		t.Errorf("workspace (-want +got):\n%s", diff)
	}
	f.do(f.ann, "GET", v1+"/owners/me/workspaces/demo", "", 200, &got)
	f.do(f.admin, "GET", v1+"/owners/ann/workspaces/demo", "", 200, &got)

	var changed Applied
	f.do(f.ann, "PUT", v1+"/workspaces/"+id, "name: renamed", 200, &changed)
	if changed.PreviousName != "demo" || !cmp.Equal(changed.Removed, []string{"side"}) {
		t.Errorf("changed %+v", changed)
	}
	var token Token
	f.do(f.ann, "POST", v1+"/workspaces/"+id+"/agents/main/token", "{}", 200, &token)
	if _, err := f.catalog.AgentByToken(t.Context(), token.Token); err != nil {
		t.Error(err)
	}
	f.do(f.ann, "POST", v1+"/workspaces/"+id+"/agents/none/token", "", 404, nil)
	f.do(f.ann, "DELETE", v1+"/workspaces/"+id, "", 204, nil)
	f.do(f.ann, "GET", v1+"/workspaces/"+id, "", 404, nil)

	main, side := out.Workspace.Agents[0].ID, out.Workspace.Agents[1].ID
	type summary struct {
		Name, Previous string
		Deleted        bool
		Revoked        []uuid.UUID
	}
	var changes []summary
	for _, c := range f.changes {
		changes = append(changes, summary{c.Workspace.Name, c.PreviousName, c.Deleted, c.Revoked})
	}
	want := []summary{
		{Name: "demo"}, {Name: "demo"},
		{Name: "renamed", Previous: "demo", Revoked: []uuid.UUID{side}},
		{Name: "renamed", Revoked: []uuid.UUID{main}},
		{Name: "renamed", Deleted: true, Revoked: []uuid.UUID{main}},
	}
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestAPI_OthersSeeNothing(t *testing.T) {
	f := newFixture(t)
	var out Applied
	f.do(f.ann, "POST", v1+"/workspaces", document, 201, &out)
	f.changes = nil
	id := out.Workspace.ID.String()
	for _, c := range [][2]string{
		{"GET", "/workspaces/" + id}, {"PUT", "/workspaces/" + id}, {"DELETE", "/workspaces/" + id},
		{"POST", "/workspaces/" + id + "/agents/main/token"}, {"GET", "/owners/ann/workspaces/demo"}, {"GET", "/owners/ann/workspaces/none"},
	} {
		f.do(f.bob, c[0], v1+c[1], document, 404, nil)
	}
	f.do(f.bob, "GET", v1+"/workspaces?owner=ann", "", 403, nil)
	f.do(f.bob, "POST", v1+"/workspaces", "owner: ann\n"+document, 403, nil)
	var list []Workspace
	f.do(f.bob, "GET", v1+"/workspaces", "", 200, &list)
	if list == nil || len(list) != 0 {
		t.Errorf("list %v", list)
	}
	for query, want := range map[string]int{"": 1, "?owner=ann": 1, "?owner=me": 0, "?owner=bob": 0} {
		f.do(f.admin, "GET", v1+"/workspaces"+query, "", 200, &list)
		if len(list) != want {
			t.Errorf("administrator, %q: %d workspaces, want %d", query, len(list), want)
		}
	}
	f.do(f.admin, "GET", v1+"/workspaces?owner=nobody", "", 404, nil)
	f.do(f.admin, "GET", v1+"/workspaces/nonsense", "", 400, nil)
	if len(f.changes) != 0 {
		t.Errorf("changes %v", f.changes)
	}
	f.do(f.admin, "DELETE", v1+"/workspaces/"+id, "", 204, nil)
}

func TestAPI_BadDocumentChangesNothing(t *testing.T) {
	f := newFixture(t)
	var p wire.Error
	f.do(f.ann, "POST", v1+"/workspaces", "name: demo\nscripts:\n  - {name: a, on: begin, script: x}\ncolour: blue\n", 400, &p)
	want := []wire.Validation{
		{Field: "scripts[0].on", Detail: `"begin": want start or stop`, Line: 3},
		{Field: "colour", Detail: "unknown field", Line: 4},
	}
	if diff := cmp.Diff(want, p.Validations); diff != "" {
		t.Errorf("validations (-want +got):\n%s", diff)
	}
	var list []Workspace
	f.do(f.ann, "GET", v1+"/workspaces", "", 200, &list)
	if len(list) != 0 || len(f.changes) != 0 {
		t.Errorf("list %v, changes %v", list, f.changes)
	}
	f.do(f.ann, "POST", v1+"/workspaces", strings.Repeat("#", maxBody+1), 413, nil)
}

func TestAPI_GuessingIsLimited(t *testing.T) {
	f := newFixture(t)
	f.do(f.ann, "GET", v1+"/users/me", "", 200, nil) // known from now on
	for range failureBurst {
		f.do("guess", "GET", v1+"/users/me", "", 401, nil)
	}
	f.do("guess", "GET", v1+"/users/me", "", 429, nil)
	f.do(f.bob, "GET", v1+"/users/me", "", 429, nil)
	f.do(f.ann, "GET", v1+"/users/me", "", 200, nil)
	elsewhere := httptest.NewRequest("GET", v1+"/users/me", nil)
	elsewhere.RemoteAddr = "[2001:db8::1]:1234"
	elsewhere.Header.Set("Coder-Session-Token", f.bob)
	f.send(elsewhere, 200, nil)

	families, err := f.reg.Gather()
	must(t, err)
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
	got := map[string]float64{}
	for _, m := range families[slices.IndexFunc(families, func(f *dto.MetricFamily) bool {
		return f.GetName() == "worktally_control_api_logins_refused_total"
	})].GetMetric() {
		got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
	}
	if diff := cmp.Diff(map[string]float64{refusedMissing: 0, refusedInvalid: failureBurst, refusedLimited: 2}, got); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}
