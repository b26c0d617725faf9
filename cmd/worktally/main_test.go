package main

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/controlapi"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"worktally": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(env *testscript.Env) error {
		url, token := newServer(t)
		env.Setenv("SERVER", url)
		env.Setenv("ADMIN_TOKEN", token)
		return nil
	}})
}

// newServer starts the API on a new catalog and returns its URL and the token of
// the administrator.
func newServer(t *testing.T) (url, token string) {
	t.Helper()
	db, err := sqldb.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Open(t.Context(), db, catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, token, _, err = c.EnsureFirstUser(t.Context(), "admin")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(controlapi.New(controlapi.Options{Catalog: c}))
	t.Cleanup(func() {
		server.Close()
		db.Close()
	})
	return server.URL, token
}

// world runs commands against a server.
type world struct {
	t   *testing.T
	env map[string]string
}

func newWorld(t *testing.T) *world {
	url, token := newServer(t)
	return &world{t: t, env: map[string]string{"WORKTALLY_URL": url, "WORKTALLY_TOKEN": token}}
}

func (w *world) run(code int, args ...string) (stdout, stderr string) {
	w.t.Helper()
	var out, errs bytes.Buffer
	got := run(w.t.Context(), args, func(name string) string { return w.env[name] }, &out, &errs)
	if got != code {
		w.t.Fatalf("worktally %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

func want(t *testing.T, what, got, pattern string) {
	t.Helper()
	if !regexp.MustCompile(`(?s)^` + pattern + `$`).MatchString(got) {
		t.Errorf("%s: %q does not match %q", what, got, pattern)
	}
}

func TestRun_UsersAndWorkspaces(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "ws.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, errs := w.run(0, "user", "create", "ann")
	want(t, "user create", out, `[A-Z2-7]{26}\n`)
	want(t, "user create", errs, `User ann is created.*\n`)
	tokenFile := filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	as := []string{"--token-file", tokenFile} // wins over the environment

	write("name: demo\ntemplate: {name: go}\nagents: [{name: main}, {name: side}]\n")
	out, errs = w.run(0, append(as, "workspace", "apply", "-f", file)[2:]...) // as the administrator
	want(t, "apply", out, `main=[0-9a-f-]{36}\nside=[0-9a-f-]{36}\n`)
	want(t, "apply", errs, `Workspace admin/demo is created\..*`)
	out, _ = w.run(0, append([]string{"workspace", "apply", "-f", file, "-o", "json"}, as...)...)
	var applied controlapi.Applied
	if err := json.Unmarshal([]byte(out), &applied); err != nil || applied.Workspace.Owner != "ann" || len(applied.Tokens) != 2 {
		t.Errorf("apply -o json: %v, %s", err, out)
	}
	write("name: demo\n")
	out, errs = w.run(0, append([]string{"workspace", "apply", "-f", file}, as...)...)
	want(t, "apply again", out, ``)
	want(t, "apply again", errs, `Workspace ann/demo is changed\.\nAgents removed: side\.\n`)

	out, _ = w.run(0, "workspace", "list")
	want(t, "list", out, `WORKSPACE +TEMPLATE +AGENT +STATUS +LIFECYCLE +VERSION\nadmin/demo +go +main +connecting +created +-\nadmin/demo .*\nann/demo +- +main .*\n`)
	out, _ = w.run(0, append([]string{"workspace", "list", "-o", "json"}, as...)...)
	var list []controlapi.Workspace
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		t.Errorf("list -o json: %v, %s", err, out)
	}
	out, errs = w.run(0, append([]string{"workspace", "rotate-token", "demo"}, as...)...)
	want(t, "rotate-token", out, `[0-9a-f-]{36}\n`)
	want(t, "rotate-token", errs, `The old token is valid until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\..*\n`)
	_, errs = w.run(2, append([]string{"workspace", "rotate-token", "demo", "--grace", "1000h"}, as...)...)
	want(t, "rotate-token", errs, `worktally: --grace: .*\n`)
	_, errs = w.run(0, append([]string{"workspace", "rotate-token", "demo", "--grace", "0"}, as...)...)
	want(t, "rotate-token", errs, `The old token is invalid from now on\..*\n`)
	if out == applied.Tokens["main"]+"\n" {
		t.Error("the token is the old one")
	}
	_, errs = w.run(2, "workspace", "rotate-token", "demo")
	want(t, "rotate-token of one of two agents", errs, `.*has 2 agents: say which with --agent\n`)
	w.run(0, "workspace", "rotate-token", "demo", "--agent", "side")
	_, errs = w.run(1, append([]string{"workspace", "delete", "admin/demo"}, as...)...)
	want(t, "delete somebody else's", errs, `worktally: Resource not found: .*\n`)
	_, errs = w.run(1, "user", "delete", "ann")
	want(t, "delete an owner", errs, `worktally: It cannot be deleted now: .*owns 1 workspaces.*\n`)
	w.run(0, "workspace", "delete", "ann/demo")
	out, _ = w.run(0, append([]string{"user", "rotate-token"}, as...)...)
	want(t, "user rotate-token", out, `[A-Z2-7]{26}\n`)
	_, errs = w.run(1, append([]string{"workspace", "list"}, as...)...)
	want(t, "the old token", errs, `worktally: The token is not valid\n`)
	w.run(0, "user", "delete", "ann")
	out, _ = w.run(0, "user", "list")
	want(t, "user list", out, `USERNAME +ADMIN +CREATED\nadmin +true +[0-9-]+ [0-9:]+\n`)
	out, _ = w.run(0, "user", "list", "-o", "json")
	want(t, "user list -o json", out, `\[\n  \{\n.*"username": "admin".*`)
}

func TestRun_BadDocument(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "ws.bad.yaml")
	if err := os.WriteFile(file, []byte("name: demo\nscripts:\n  - {name: a, on: start, script: x, cron: '* *'}\ncolour: blue\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs := w.run(1, "workspace", "apply", "-f", file)
	quoted := regexp.QuoteMeta(file)
	want(t, "stdout", out, ``)
	want(t, "stderr", errs, `worktally: `+quoted+`:3: scripts\[0\]\.cron: "\* \*": has 2 fields.*\nworktally: `+quoted+`:4: colour: unknown field\n`)
}

func TestRun_ServerTroubles(t *testing.T) {
	w := newWorld(t)
	other := httptest.NewServer(nil)
	defer other.Close()
	w.env["WORKTALLY_URL"] = other.URL
	_, errs := w.run(1, "workspace", "list")
	want(t, "another server", errs, `worktally: the server answered 404 Not Found; is --url .*\n`)
	w.env["WORKTALLY_URL"] = "http://127.0.0.1:1"
	w.env["WORKTALLY_TOKEN"] = "hunter2"
	_, errs = w.run(1, "workspace", "list")
	want(t, "no server", errs, `worktally: ask the server: .*refused\n`)
	if strings.Contains(errs, "hunter2") {
		t.Errorf("the token is shown: %s", errs)
	}
}
