package agentgit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/internal/freeport"
	"github.com/worktally/worktally/internal/testtool"
)

// The test binary stands in for the agent's binary when git calls it.
func TestMain(m *testing.M) {
	if IsAskpass(os.Args[1:], os.Environ()) {
		os.Exit(Askpass(context.Background(), os.Args[1:], os.Getenv, nil, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestIsAskpass(t *testing.T) {
	const username, password = "Username for 'https://git.example': ", "Password for 'https://me@git.example': "
	tests := []struct {
		name          string
		args, environ []string
		want          bool
	}{
		{"a username prompt", []string{username}, []string{"A=b", "GIT_PREFIX="}, true},
		{"a password prompt in a directory", []string{password}, []string{"GIT_PREFIX=sub/"}, true},
		{"not from git", []string{username}, []string{"A=b"}, false},
		{"another argument", []string{username, "x"}, []string{"GIT_PREFIX="}, false},
		{"another prompt", []string{"Enter passphrase"}, []string{"GIT_PREFIX="}, false},
		{"a subcommand", []string{"agent"}, []string{"GIT_PREFIX="}, false},
		{"nothing", nil, []string{"GIT_PREFIX="}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := IsAskpass(tt.args, tt.environ); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestParsePrompt(t *testing.T) {
	for text, want := range map[string]prompt{
		"Username for 'https://git.example': ":      {"git.example", false},
		"Username for 'http://git.example:8080': ":  {"git.example:8080", false},
		"Password for 'https://me@git.example': ":   {"git.example", true},
		"Password for 'https://me@git.example/x': ": {"git.example", true},
	} {
		got, err := parsePrompt(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "Username", "Username for ", "Username for '': ", "Username for 'git.example': ", "Password for 'ssh://x': ", "Username for 'https://%zz': "} {
		if got, err := parsePrompt(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
}

func FuzzParsePrompt(f *testing.F) {
	f.Add("Password for 'https://me@git.example': ")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parsePrompt(text); err == nil && (p.host == "" || strings.ContainsAny(p.host, "/@ ")) {
			t.Fatalf("%q was read as %+v", text, p)
		}
	})
}

// hub answers like a server; environ leads to it.
func hub(t *testing.T, handler http.HandlerFunc) (getenv func(string) string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Coder-Session-Token") != "secret" {
			t.Error("the token is missing")
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		handler(w, r)
	}))
	t.Cleanup(s.Close)
	return env(s.URL)
}

func env(url string) func(string) string {
	return func(name string) string {
		return map[string]string{"CODER_AGENT_URL": url, "CODER_AGENT_TOKEN": "secret"}[name]
	}
}

func TestAskpass(t *testing.T) {
	tests := []struct {
		name, prompt   string
		answer         credentials
		status         int
		want           string
		code           int
		complaintAbout string
	}{
		{name: "a username", prompt: "Username for 'https://git.example': ", answer: credentials{Username: "u", Password: "p"}, want: "u\n"},
		{name: "a password", prompt: "Password for 'https://u@git.example': ", answer: credentials{Username: "u", Password: "p"}, want: "p\n"},
		{name: "a token as the username", prompt: "Password for 'https://tok@git.example': ", answer: credentials{Username: "tok"}, want: "tok\n"},
		{name: "a bare token", prompt: "Username for 'https://git.example': ", answer: credentials{AccessToken: "tok"}, want: "tok\n"},
		{name: "no such provider", prompt: "Username for 'https://git.example': ", status: 404, code: 1, complaintAbout: "warning: "},
		{name: "a broken server", prompt: "Username for 'https://git.example': ", status: 500, code: 1, complaintAbout: "out of order"},
		{name: "a redirect is not followed", prompt: "Username for 'https://git.example': ", status: 307, code: 1, complaintAbout: "307"},
		{name: "a prompt for something else", prompt: "Username for 'ftp://git.example': ", code: 1, complaintAbout: "ftp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			getenv := hub(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/v2/workspaceagents/me/external-auth" || r.URL.RawQuery != "match=git.example" {
					t.Errorf("request for %s", r.URL)
				}
				if tt.status != 0 {
					w.Header().Set("Location", "http://127.0.0.1:1/")
					w.WriteHeader(tt.status)
					fmt.Fprint(w, `{"message":"out of order"}`)
					return
				}
				_ = json.NewEncoder(w).Encode(tt.answer)
			})
			var stdout, stderr bytes.Buffer
			code := Askpass(context.Background(), []string{tt.prompt}, getenv, nil, &stdout, &stderr)
			if code != tt.code || stdout.String() != tt.want || !strings.Contains(stderr.String(), tt.complaintAbout) {
				t.Errorf("exit %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
			}
		})
	}
}

func TestAskpass_WaitsForTheLink(t *testing.T) {
	var questions atomic.Int32
	getenv := hub(t, func(w http.ResponseWriter, r *http.Request) {
		n := questions.Add(1)
		if listening := r.URL.Query().Get("listen") == "true"; listening != (n > 1) {
			t.Errorf("question %d: %s", n, r.URL)
		}
		c := credentials{Username: "u"}
		if n < 3 {
			c = credentials{URL: "https://hub.example/link"}
		}
		_ = json.NewEncoder(w).Encode(c)
	})
	var stdout, stderr bytes.Buffer
	code := Askpass(context.Background(), []string{"Username for 'https://git.example': "}, getenv, nil, &stdout, &stderr)
	if code != 0 || stdout.String() != "u\n" || !strings.Contains(stderr.String(), "https://hub.example/link") {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
	}
}

func TestAskpass_StopsWaitingWhenTold(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	getenv := hub(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("listen") {
			cancel()
		}
		_ = json.NewEncoder(w).Encode(credentials{URL: "https://hub.example/link"})
	})
	var stdout, stderr bytes.Buffer
	if code := Askpass(ctx, []string{"Username for 'https://git.example': "}, getenv, nil, &stdout, &stderr); code != 1 || stdout.Len() > 0 {
		t.Errorf("exit %d, stdout %q", code, stdout.String())
	}
}

func TestAskpass_WithRealGit(t *testing.T) {
	git := testtool.Find(t, "git")
	getenv := hub(t, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(credentials{Username: "user", Password: "pass"})
	})
	var got atomic.Value
	repo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		got.Store(user + ":" + password)
		w.WriteHeader(http.StatusForbidden)
	}))
	defer repo.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(git, "ls-remote", repo.URL+"/repo.git")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "GIT_ASKPASS="+self, "HOME="+t.TempDir(), "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"CODER_AGENT_URL="+getenv("CODER_AGENT_URL"), "CODER_AGENT_TOKEN=secret")
	out, err := cmd.CombinedOutput()
	if err == nil || got.Load() != "user:pass" {
		t.Errorf("git logged in with %v: %v: %s", got.Load(), err, out)
	}
}

func TestAccessToken(t *testing.T) {
	getenv := hub(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("id") == "unlinked" {
			_ = json.NewEncoder(w).Encode(credentials{URL: "https://hub.example/link"})
			return
		}
		_ = json.NewEncoder(w).Encode(credentials{AccessToken: "tok"})
	})
	for id, want := range map[string]string{"linked": "0 tok\n", "unlinked": "1 https://hub.example/link\n", "": "2 "} {
		var stdout, stderr bytes.Buffer
		code := AccessToken(context.Background(), []string{id}, getenv, nil, &stdout, &stderr)
		if got := fmt.Sprint(code, " ", stdout.String()); got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
}

func keyServer(t *testing.T) func(string) string {
	return hub(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v2/workspaceagents/me/gitsshkey" {
			t.Errorf("request for %s", r.URL)
		}
		_ = json.NewEncoder(w).Encode(keyPair{PublicKey: "ssh-ed25519 AAAA", PrivateKey: "PRIVATE"})
	})
}

func TestGitSSH_RunsSSHWithBothKeys(t *testing.T) {
	home, temp := t.TempDir(), t.TempDir()
	own := filepath.Join(home, "id_own")
	if err := os.WriteFile(own, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Stands in for ssh: lists identity files, and otherwise shows what it got.
	script := "#!/bin/sh\nif [ \"$1\" = -G ]; then echo 'identityfile " + own + "'; echo 'identityfile " + home + "/gone'; exit; fi\n" +
		"echo \"$1 $2 $3 $5 $6\"; stat -c %a \"$4\"; cat \"$4\"; cat; exit 3\n"
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("TMPDIR", temp)
	var stdout, stderr bytes.Buffer
	code := GitSSH(context.Background(), []string{"--", "git@host", "git-upload-pack"}, keyServer(t), nil, strings.NewReader("input\n"), &stdout, &stderr)
	want := "-i " + own + " -i git@host git-upload-pack\n600\nPRIVATE\ninput\n"
	if diff := cmp.Diff(want, stdout.String()); diff != "" || code != 3 {
		t.Errorf("exit %d, stderr %q, stdout (-want +got):\n%s", code, stderr.String(), diff)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("the key is left: %v, %v", left, err)
	}
}

// TestGitSSH_ServerWithoutKeys: the user's own keys work all the same.
func TestGitSSH_ServerWithoutKeys(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte("#!/bin/sh\necho \"$@\"; exit 255\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	var stdout, stderr bytes.Buffer
	code := GitSSH(context.Background(), []string{"--", "git@host", "git-upload-pack"}, hub(t, http.NotFound), nil, nil, &stdout, &stderr)
	if code != sshFailed || stdout.String() != "git@host git-upload-pack\n" || stderr.Len() != 0 {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
	}
	for _, status := range []int{http.StatusUnauthorized, http.StatusInternalServerError} {
		stdout.Reset()
		refuse := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
		if code := GitSSH(context.Background(), []string{"git@host"}, hub(t, refuse), nil, nil, &stdout, &stderr); code != 1 || stdout.Len() != 0 {
			t.Errorf("status %d: exit %d, stdout %q", status, code, stdout.String())
		}
	}
}

func TestGitSSH_WithRealSSH(t *testing.T) {
	testtool.Find(t, "ssh")
	port, err := freeport.Get() // one that nobody is given meanwhile
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	args := []string{"--", "-F", "/dev/null", "-p", strconv.Itoa(port), "git@127.0.0.1", "git-upload-pack 'x'"}
	code := GitSSH(context.Background(), args, keyServer(t), nil, nil, &stdout, &stderr)
	if code != sshFailed || !strings.Contains(stderr.String(), "refused") || !strings.Contains(stderr.String(), "ssh-ed25519 AAAA") {
		t.Errorf("exit %d, stderr %q", code, stderr.String())
	}
}

func TestIdentityFiles(t *testing.T) {
	config := "user git\nidentityfile ~/.ssh/id_ed25519\nidentityfile /etc/key with blank\nidentityfile\nidentitiesonly no\n"
	want := []string{"/home/me/.ssh/id_ed25519", "/etc/key with blank"}
	if diff := cmp.Diff(want, identityFiles([]byte(config), "/home/me")); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	ssh := testtool.Find(t, "ssh")
	out, err := exec.Command(ssh, "-F", "/dev/null", "-G", "host").Output()
	if err != nil || len(identityFiles(out, "/h")) == 0 {
		t.Errorf("ssh -G names no identity: %v", err)
	}
}

func TestHelpers_WithoutEnvironment(t *testing.T) {
	none := func(string) string { return "" }
	broken := env("hub.example")
	for _, getenv := range []func(string) string{none, broken} {
		var stderr bytes.Buffer
		if code := GitSSH(context.Background(), []string{"host"}, getenv, nil, nil, &stderr, &stderr); code != 1 || !strings.Contains(stderr.String(), "CODER_AGENT_URL") {
			t.Errorf("exit %d, stderr %q", code, stderr.String())
		}
	}
}
