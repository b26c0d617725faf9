//go:build unix

package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/wire/wiretest"
)

// TestIdentity_SecondStartWithoutServer: the page has its labels, SSH works and
// has the same host key, before the server answers.
func TestIdentity_SecondStartWithoutServer(t *testing.T) {
	state := t.TempDir()
	s := wiretest.Start(t, wiretest.Options{})
	var dial func() (*ssh.Client, error)
	var host *ssh.PublicKey
	with := func(o *Options) {
		o.StateDir = state
		dial, host = withSSH(t, o)
	}
	first := run(t, s, with)
	s.WaitCalls(t, "UpdateLifecycle", 2)
	mustDial(t, dial)
	key := string((*host).Marshal())
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	s.SetDown(true)
	second := run(t, s, with)
	client := mustDial(t, dial)
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.Output("echo works")
	if err != nil || string(out) != "works\n" {
		t.Errorf("%q, %v", out, err)
	}
	if string((*host).Marshal()) != key {
		t.Error("the host key has changed")
	}
	page := scrape(t, second.MetricsHandler())
	if lines := sampleLines(page, "coderd_agentstats_session_count_ssh"); len(lines) != 1 || !strings.Contains(lines[0], `workspace_name="workspace"`) {
		t.Errorf("page: %q", lines)
	}
	if len(sampleLines(page, "coderd_agentstats_startup_script_seconds")) != 0 {
		t.Error("the start phase ended without a manifest")
	}
	s.SetDown(false)
	s.WaitCalls(t, "UpdateLifecycle", 6) // four of the first run, two of the second
	_ = client.Close()
	// Without the limit of the stop, which a disk may take longer than.
	if err := second.client.FlushReport(t.Context()); err != nil {
		t.Error(err)
	}
	if err := second.stop(); err != nil {
		t.Error(err)
	}
	if got := s.Ledger.Totals()["agent_sessions_opened_total\xffvia\xffssh"]; got != 1 {
		t.Errorf("the server knows of %v sessions", got)
	}
	checkStateDir(t, state)
}

// checkStateDir: nobody else can read it, and the token is nowhere in it.
func checkStateDir(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		if strings.Contains(path, wiretest.Token) {
			t.Errorf("%s tells the token", path)
		}
		if d.IsDir() {
			return nil
		}
		files++
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), wiretest.Token) {
			t.Errorf("%s holds the token", path)
		}
		return err
	})
	if err != nil || files < 2 {
		t.Errorf("%d files, %v", files, err)
	}
}

// TestIdentity_DamagedCache is reported and replaced.
func TestIdentity_DamagedCache(t *testing.T) {
	for name, text := range map[string]string{"no JSON": "{", "empty": "", "of nobody": "{}", "null": "null"} {
		t.Run(name, func(t *testing.T) {
			s := wiretest.Start(t, wiretest.Options{})
			state := t.TempDir()
			probe := newAgent(t, s, func(o *Options) { o.StateDir = state })
			file, err := probe.identityFile(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := probe.recallIdentity(t.Context()); err == nil || !strings.Contains(err.Error(), "is damaged") {
				t.Errorf("error %v", err)
			}
			run(t, s, func(o *Options) { o.StateDir = state })
			s.WaitCalls(t, "UpdateLifecycle", 2)
			if err := probe.recallIdentity(t.Context()); err != nil || probe.identity.Load().AgentName != "main" {
				t.Errorf("after a run: %v", err)
			}
		})
	}
}

func TestSafeName(t *testing.T) {
	seen := make(map[string]string)
	long := strings.Repeat("n", 255)
	for _, name := range []string{
		"main", "", ".", "..", "a/b", `a\b`, "a\x00b", "../../etc", "ä b", "2f.x", "/", // which becomes 2f.x
		long, long + "1", long + "2", long + "/", strings.Repeat("/", 127), strings.Repeat("ä", 2000),
	} {
		safe := safeName(name)
		if err := os.Mkdir(filepath.Join(t.TempDir(), safe), 0o700); err != nil {
			t.Errorf("%.20q: %v", name, err)
		}
		if filepath.Base(safe) != safe || safe == "." || safe == ".." || strings.ContainsAny(safe, "/\\\x00") {
			t.Errorf("%q becomes %q", name, safe)
		}
		if other, twice := seen[safe]; twice {
			t.Errorf("%q and %q both become %q", name, other, safe)
		}
		seen[safe] = name
	}
}
