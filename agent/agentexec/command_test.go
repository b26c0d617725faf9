package agentexec

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCommandLine(t *testing.T) {
	tests := []struct {
		name, command string
		windows       bool
		want          []string
		wantErr       string
	}{
		{name: "no command is a login shell", want: []string{"/bin/sh", "-l"}},
		{name: "blanks are no command", command: " \n", want: []string{"/bin/sh", "-l"}},
		{name: "a command goes through the shell", command: "echo 'a  b'", want: []string{"/bin/sh", "-c", "echo 'a  b'"}},
		{name: "a script runs through its interpreter", command: "\n#!/usr/bin/env python3 -u\nprint(1)\n",
			want: []string{"/usr/bin/env", "python3", "-u", "-c", "\n#!/usr/bin/env python3 -u\nprint(1)\n"}},
		{name: "an interpreter may be quoted", command: `#!"/opt/my shell" -x`, want: []string{"/opt/my shell", "-x", "-c", `#!"/opt/my shell" -x`}},
		{name: "an interpreter line with Windows line ends", command: "#!/bin/sh\r\necho", want: []string{"/bin/sh", "-c", "#!/bin/sh\r\necho"}},
		{name: "a script without interpreter is an error", command: "#!\necho", wantErr: "no interpreter"},
		{name: "a half quote is an error", command: "#!'/bin/sh\necho", wantErr: "unfinished quote"},
		{name: "windows has its own switch", command: "dir", windows: true, want: []string{"/bin/sh", "/c", "dir"}},
		{name: "windows has no login shell", windows: true, want: []string{"/bin/sh"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := commandLine("/bin/sh", tt.command, tt.windows)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error = %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
		})
	}
}

// newBuilder returns a builder in a home of its own.
func newBuilder(t *testing.T, o Options, env ...string) *Builder {
	t.Helper()
	if o.Home == "" {
		o.Home = t.TempDir()
	}
	if o.Shell == "" {
		o.Shell = "/bin/sh"
	}
	o.Environ = func() []string { return append([]string{"PATH=" + os.Getenv("PATH")}, env...) }
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func run(t *testing.T, b *Builder, r Request) string {
	t.Helper()
	cmd, err := b.Command(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", r.Command, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestBuilder_PredefinedVariables(t *testing.T) {
	b := newBuilder(t, Options{Executable: "/opt/my agent", AgentURL: "https://hub.example"}, "CODER_AGENT_TOKEN=stale", "CODER_WORKSPACE_NAME=stale")
	b.Update(Settings{
		OwnerName: "owner", WorkspaceName: "ws", WorkspaceID: "id", AgentName: "main",
		Token: func() string { return "fresh" }, ProxyURI: "https://{{port}}.example",
	})
	got := run(t, b, Request{Command: `echo "$CODER|$CODER_WORKSPACE_NAME|$CODER_WORKSPACE_AGENT_NAME|$CODER_WORKSPACE_OWNER_NAME|$CODER_WORKSPACE_ID|$CODER_AGENT_TOKEN|$GIT_SSH_COMMAND|$CS_DISABLE_GETTING_STARTED_OVERRIDE|$VSCODE_PROXY_URI|$CODER_AGENT_URL|$GIT_ASKPASS|$SSH_CLIENT|$SSH_CONNECTION"`})
	want := "true|ws|main|owner|id|fresh|'/opt/my agent' gitssh --|true|https://{{port}}.example|https://hub.example|/opt/my agent|0.0.0.0 0 0|0.0.0.0 0 0.0.0.0 0"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestBuilder_Directory(t *testing.T) {
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "project"), 0o700); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, setting, asked, want string }{
		{"nothing is set", "", "", home},
		{"the configured directory", "~/project", "", home + "/project"},
		{"a variable in it", "$HOME/$SUB", "", home + "/project"},
		{"relative to the home", "project", "", home + "/project"},
		{"a configured directory that does not exist", "~/gone", "", home},
		{"the request wins", "~/project", "/", "/"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBuilder(t, Options{Home: home}, "SUB=project")
			b.Update(Settings{Directory: tt.setting})
			if got := run(t, b, Request{Command: "pwd", Dir: tt.asked}); got != tt.want {
				t.Errorf("directory = %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("a missing home keeps nobody out", func(t *testing.T) {
		b := newBuilder(t, Options{Home: filepath.Join(home, "gone")})
		if got := run(t, b, Request{Command: "echo in"}); got != "in" {
			t.Errorf("output = %q", got)
		}
	})
}

func TestBuilder_ShellFromPasswd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(file, []byte("broken\nother:x:1:1::/o:/bin/false\nme:x:2:2:Me:/home/me:/bin/myshell\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func() []string { return []string{"SHELL=/bin/fallback"} }
	for user, want := range map[string]identity{
		"me":     {"me", "/home/me", "/bin/myshell"},
		"nobody": {"nobody", "", "/bin/fallback"},
	} {
		b, err := New(Options{User: user, PasswdFile: file, Environ: env})
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.identity(env())
		if err != nil {
			t.Fatal(err)
		}
		if want.home == "" {
			want.home = got.home // that of whoever runs the test
		}
		if got != want {
			t.Errorf("identity of %s = %+v, want %+v", user, got, want)
		}
	}
}

func TestBuilder_PriorityWrapper(t *testing.T) {
	b := newBuilder(t, Options{Executable: "/opt/agent"}, "CODER_PROC_PRIO_MGMT=", "CODER_PROC_OOM_SCORE=7", "CODER_PROC_NICE_SCORE=often")
	cmd, err := b.Command(context.Background(), Request{Command: "true"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/opt/agent", "agent-exec", "--coder-oom=7", "--", "/bin/sh", "-c", "true"}
	if diff := cmp.Diff(want, cmd.Args); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
}

func TestBuilder_UpdateDoesNotShareMaps(t *testing.T) {
	b := newBuilder(t, Options{})
	env := map[string]string{"A": "1"}
	b.Update(Settings{Env: env})
	env["A"] = "2"
	if got := run(t, b, Request{Command: "echo $A"}); got != "1" {
		t.Errorf("A = %q, want the value at Update", got)
	}
}

func TestSplitWords(t *testing.T) {
	for line, want := range map[string][]string{
		`/bin/sh`:               {"/bin/sh"},
		` a  b\ c 'd e' "f g" `: {"a", "b c", "d e", "f g"},
		`"a\"b\c" '' a'b'c`:     {`a"b\c`, "", "abc"},
		``:                      nil,
	} {
		got, err := splitWords(line)
		if err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
}

func FuzzSplitWords(f *testing.F) {
	f.Add(`/usr/bin/env -S "a b" 'c' \d`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := splitWords(line)
		if err != nil {
			return
		}
		for i, w := range words {
			words[i] = shellQuote(w)
		}
		again, err := splitWords(strings.Join(words, " "))
		if err != nil || len(again) != len(words) {
			t.Fatalf("%q -> %q -> %q, %v", line, words, again, err)
		}
	})
}

func TestShellQuote_SurvivesTheShell(t *testing.T) {
	for _, s := range []string{"/plain/path", "with blank", "it's", "$HOME;`id`", ""} {
		out, err := exec.Command("/bin/sh", "-c", "printf %s "+shellQuote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q came back as %q, %v", s, out, err)
		}
	}
}
