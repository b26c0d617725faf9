package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseForward(t *testing.T) {
	for text, want := range map[string]forward{
		"8080":             {"127.0.0.1:8080", 8080},
		"9000:80":          {"127.0.0.1:9000", 80},
		"0:80":             {"127.0.0.1:0", 80},
		"0.0.0.0:9000:80":  {"0.0.0.0:9000", 80},
		"[::1]:9000:65535": {"[::1]:9000", 65535},
	} {
		if got, err := parseForward(text); err != nil || got != want {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "0", "80:0", "x:80", "80:x", "70000", "80:70000", "70000:80"} {
		if got, err := parseForward(text); err == nil {
			t.Errorf("%q is accepted: %+v", text, got)
		}
	}
}

func FuzzParseForward(f *testing.F) {
	f.Add("[::1]:9000:80")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parseForward(text); err == nil && got.remote == 0 {
			t.Errorf("%q: %+v", text, got)
		}
	})
}

func TestWorkspaceOfHost(t *testing.T) {
	for host, want := range map[string]string{"ws": "ws", "me--ws": "me/ws", "me--ws--agent": "me/ws.agent", "a--b--c--d": "a--b--c--d"} {
		if got := workspaceOfHost(host); got != want {
			t.Errorf("%s: %s", host, got)
		}
	}
}

// TestConfigSSH_IsReadByOpenSSH writes a section twice beside what was there, and
// asks OpenSSH what it makes of it.
func TestConfigSSH_IsReadByOpenSSH(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dir", "config")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("Host other\n    Port 2222"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"http://old.example.com", "http://127.0.0.1:3000"} {
		var out, errs strings.Builder
		env := map[string]string{"WORKTALLY_URL": url}
		if code := run(t.Context(), []string{"config-ssh", "--ssh-config-file", file}, func(n string) string { return env[n] }, &out, &errs); code != 0 {
			t.Fatal(code, errs.String())
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), sectionStart) != 1 || strings.Contains(string(text), "old.example.com") || !strings.HasPrefix(string(text), "Host other\n    Port 2222\n") {
		t.Errorf("%s", text)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	got, err := exec.Command("ssh", "-G", "-F", file, "worktally.me--ws").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	for _, want := range []string{"proxycommand ", " ssh --stdio --url http://127.0.0.1:3000 --host-prefix worktally. %h", "ciphers aes128-gcm@openssh.com,"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("OpenSSH does not see %q", want)
		}
	}
	if err := os.WriteFile(file, []byte(sectionStart+"\nbroken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeSection(file, "x"); err == nil {
		t.Error("a broken section was written over")
	}
}

// TestConfigSSH_UnusualPlaces: the command finds the token from any directory,
// whatever the shell and OpenSSH think of its name, and a configuration that is a
// link stays one.
func TestConfigSSH_UnusualPlaces(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	file, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs strings.Builder
	args := []string{"config-ssh", "--ssh-config-file", link, "--url", "http://127.0.0.1:3000", "--token-file", "a&b (50%d)"}
	if code := run(t.Context(), args, func(string) string { return "" }, &out, &errs); code != 0 {
		t.Fatal(code, errs.String())
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is replaced: %v %v", info, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := " --token-file '" + filepath.Join(dir, "a&b (50%%d)") + "' "; !strings.Contains(string(text), want) {
		t.Errorf("there is no %q in\n%s", want, text)
	}
}
