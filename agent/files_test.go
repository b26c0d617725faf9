//go:build unix

package agent

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

// TestSecrets_FilesAndVariables: both kinds reach scripts and files; a secret
// that cannot be written concerns itself only; none is in the log.
func TestSecrets_FilesAndVariables(t *testing.T) {
	dir := t.TempDir()
	kept := filepath.Join(dir, "kept")
	if err := os.WriteFile(kept, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	m := wiretest.NewManifest()
	const value = "s3cr3t$HOME"
	m.Secrets = []*agentpb.WorkspaceSecret{
		{FilePath: filepath.Join(dir, "kept", "impossible"), Value: []byte(value)},
		{EnvName: "MY_SECRET", Value: []byte(value)},
		{FilePath: "~/new/secret", Value: []byte(value)},
		{FilePath: kept, Value: []byte(value)},
		nil,
	}
	out := filepath.Join(dir, "out")
	wiretest.AddScript(m, `printf %s "$MY_SECRET" > `+out, func(s *agentpb.WorkspaceAgentScript) { s.RunOnStart = true })
	s := wiretest.Start(t, wiretest.Options{Manifest: m})
	home := ""
	a := run(t, s, func(o *Options) {
		for _, e := range o.Environ() {
			if h, ok := strings.CutPrefix(e, "HOME="); ok {
				home = h
			}
		}
	})
	s.WaitCalls(t, "UpdateLifecycle", 2)
	for path, mode := range map[string]os.FileMode{out: 0, filepath.Join(home, "new", "secret"): 0o600, filepath.Join(home, "new"): 0o700, kept: 0o640} {
		info, err := os.Stat(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if mode != 0 && info.Mode().Perm() != mode {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		if info.IsDir() {
			continue
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != value {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(a.log.String(), "s3cr3t") || !strings.Contains(a.log.String(), "write secret") {
		t.Errorf("log:\n%s", a.log)
	}
}

func TestEditors_OnlyWithGitProviders(t *testing.T) {
	for _, providers := range []uint32{0, 1} {
		m := wiretest.NewManifest()
		m.GitAuthConfigs = providers
		s := wiretest.Start(t, wiretest.Options{Manifest: m})
		a := run(t, s, nil)
		s.WaitCalls(t, "UpdateStartup", 1)
		home, err := a.commands.Home()
		if err != nil {
			t.Fatal(err)
		}
		files := a.editorSettings(home)
		if len(files) != 6 || files[0] != filepath.Join(home, ".local/share/code-server/Machine/settings.json") {
			t.Errorf("files %q", files)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if (err == nil) != (providers > 0) {
				t.Errorf("%d providers: %s: %v", providers, file, err)
			}
			if err == nil && (!strings.Contains(string(text), `"git.useIntegratedAskPass": false`) || !strings.Contains(string(text), `"github.gitAuthentication": false`)) {
				t.Errorf("%s: %s", file, text)
			}
		}
	}
}

func TestMergeSettings(t *testing.T) {
	for _, tc := range []struct {
		name, before, after string
		bad                 bool
	}{
		{"new", "", `{"k":false}`, false},
		{"others are kept", `{"a":[1,{"b":null}],"k":true}`, `{"a":[1,{"b":null}],"k":false}`, false},
		{"nothing to change", `{ "k" : false }`, `{ "k" : false }`, false},
		{"another type", `{"k":{"x":1}}`, `{"k":false}`, false},
		{"comments", "// mine\n{}", "// mine\n{}", true},
		{"null", "null", "null", true},
		{"a list", "[]", "[]", true},
	} {
		path := filepath.Join(t.TempDir(), "deep", "settings.json")
		if tc.before != "" {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tc.before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := mergeSettings(path, map[string]any{"k": false}); (err != nil) != tc.bad {
			t.Errorf("%s: %v", tc.name, err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var gotJSON, wantJSON any
		if !tc.bad && json.Unmarshal(got, &gotJSON) == nil && json.Unmarshal([]byte(tc.after), &wantJSON) == nil {
			if diff := cmp.Diff(wantJSON, gotJSON); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.name, diff)
			}
		} else if string(got) != tc.after {
			t.Errorf("%s: %s", tc.name, got)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", tc.name, info.Mode(), err)
		}
		if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
			t.Errorf("%s: files are left behind: %v", tc.name, files)
		}
	}
}

// FuzzMergeSettings: a file of whatever content is merged or left alone.
func FuzzMergeSettings(f *testing.F) {
	f.Add([]byte(`{"a":1}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, before []byte) {
		path := filepath.Join(t.TempDir(), "settings.json")
		if err := os.WriteFile(path, before, 0o600); err != nil {
			t.Fatal(err)
		}
		err := mergeSettings(path, map[string]any{"k": false})
		after, readErr := os.ReadFile(path)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if err != nil {
			if string(after) != string(before) {
				t.Errorf("%v, and the file has changed", err)
			}
			return
		}
		var settings map[string]any
		if json.Unmarshal(after, &settings) != nil || settings["k"] != false {
			t.Errorf("%q became %q", before, after)
		}
	})
}

func TestDebugHandler(t *testing.T) {
	m := wiretest.NewManifest()
	m.EnvironmentVariables = map[string]string{"SHOWN": "here"}
	m.Secrets = []*agentpb.WorkspaceSecret{{EnvName: "HIDDEN", Value: []byte("s3cr3t")}}
	s := wiretest.Start(t, wiretest.Options{Manifest: m})
	a := run(t, s, nil)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		a.DebugHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	if code, _ := get("/debug/logs"); code != http.StatusInternalServerError {
		t.Errorf("without a log: %d", code)
	}
	if err := os.WriteFile(filepath.Join(a.o.LogDir, LogFile), []byte("a line"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.WaitCalls(t, "UpdateStartup", 1)
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/debug/logs":                         {200, "a line"},
		"/debug/manifest":                     {200, `"SHOWN":"here"`},
		"/debug/magicsock":                    {500, "no tailnet"},
		"/debug/magicsock/debug-logging/true": {500, "no tailnet"},
		"/":                                   {404, "404 not found"},
		"/other":                              {404, "404 not found"},
	} {
		code, text := get(path)
		if code != want.code || !strings.Contains(text, want.text) {
			t.Errorf("%s: %d %s", path, code, text)
		}
		if strings.Contains(text, "s3cr3t") || strings.Contains(text, wiretest.Token) {
			t.Errorf("%s tells a secret: %s", path, text)
		}
	}
	fresh := newAgent(t, s, nil)
	w := httptest.NewRecorder()
	fresh.DebugHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/manifest", nil))
	if w.Code != http.StatusInternalServerError {
		t.Errorf("without a manifest: %d", w.Code)
	}
}

// TestStop_DiskThatHangs: a state directory that does not answer does not hold the
// stop up for ever.
func TestStop_DiskThatHangs(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{Manifest: wiretest.NewManifest()})
	a := newAgent(t, s, func(o *Options) { o.StateDir = t.TempDir() })
	answers := make(chan struct{})
	defer close(answers)
	a.readIdentity = func(string, int) ([]byte, error) {
		<-answers
		return nil, errors.New("late")
	}
	a.start(t)
	s.WaitCalls(t, "UpdateLifecycle", 1)
	ended := make(chan error, 1)
	go func() { ended <- a.stop() }()
	select {
	case <-ended:
	case <-time.After(3 * sessionsDrain):
		t.Error("the stop hangs with the disk")
	}
}
