package agentssh

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

func TestServer_ForcedTerminal(t *testing.T) {
	w := newWorld(t)
	got := w.ssh([]string{"-tt", "-o", "SetEnv=TERM=vt220"}, `test -t 0 && test "$SSH_TTY" = "$(tty)" && echo $TERM; exit 5`)
	if got.code != 5 || got.stdout != "vt220\r\n" {
		t.Errorf("result = %+v", got)
	}
	if w.total("agent_sessions_total", "pty", "yes", "magic_type", "ssh") != 1 {
		t.Error("the session was not counted")
	}
}

func TestServer_TerminalOutputIsWhole(t *testing.T) {
	w := newWorld(t)
	got := w.ssh([]string{"-tt"}, "stty raw; seq 100000")
	if lines := strings.Count(got.stdout, "\n"); got.code != 0 || lines != 100000 || !strings.HasSuffix(got.stdout, "\n100000\n") {
		t.Errorf("exit status %d, %d lines", got.code, lines)
	}
}

// terminal is a session with a terminal whose output is read line by line.
type terminal struct {
	*ssh.Session
	t     testing.TB
	lines *bufio.Reader
}

func (w *world) terminal(c *ssh.Client, modes ssh.TerminalModes) *terminal {
	w.t.Helper()
	s := w.session(c)
	if err := s.RequestPty("xterm", 24, 80, modes); err != nil {
		w.t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	return &terminal{Session: s, t: w.t, lines: bufio.NewReader(out)}
}

func (x *terminal) line() string {
	x.t.Helper()
	line, err := x.lines.ReadString('\n')
	if err != nil {
		x.t.Fatalf("read a line: %v after %q", err, line)
	}
	return strings.TrimRight(line, "\r\n")
}

func TestServer_WindowChange(t *testing.T) {
	w := newWorld(t)
	x := w.terminal(w.dial(), nil)
	// Many changes before the start must neither hang nor be lost.
	for i := range 100 {
		if err := x.WindowChange(30+i, 100+i); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Start(`trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.05; done`); err != nil {
		t.Fatal(err)
	}
	if got := x.line(); got != "129 199" {
		t.Errorf("size at start = %q", got)
	}
	if err := x.WindowChange(50, 132); err != nil {
		t.Fatal(err)
	}
	if got := x.line(); got != "50 132" {
		t.Errorf("size after the change = %q", got)
	}
}

func TestServer_TerminalModes(t *testing.T) {
	w := newWorld(t)
	x := w.terminal(w.dial(), ssh.TerminalModes{
		ssh.ECHO: 0, ssh.ICANON: 1, ssh.VINTR: 7, ssh.VQUIT: 255, ssh.IUTF8: 1, ssh.ONLCR: 0, ssh.TTY_OP_ISPEED: 9600, ssh.TTY_OP_OSPEED: 9600,
	})
	if err := x.Start("stty -a; stty speed"); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(x.lines)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"-echo ", " icanon", "intr = ^G;", "quit = <undef>;", " iutf8", "-onlcr", "\n9600\n"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%q is missing in %q", want, b)
		}
	}
}

func TestServer_TerminalEndsWithItsClient(t *testing.T) {
	w := newWorld(t)
	c := w.dial()
	x := w.terminal(c, nil)
	if err := x.Start("trap '' HUP; echo $$; while :; do sleep 0.05; done"); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(x.line())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	eventually(t, "the end of the process", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	eventually(t, "the count", func() bool { return w.ended(stats.EndDisconnected) == 1 })
}

func TestServer_LoginGreets(t *testing.T) {
	motd := func(w *world) { // at the place that the manifest names
		if err := os.WriteFile(filepath.Join(w.home, "motd"), []byte("one\ntwo"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.builder.Update(agentexec.Settings{MOTDFile: "~/motd"})
	}
	login := func(t *testing.T, w *world, command string) string {
		t.Helper()
		x := w.terminal(w.dial(), ssh.TerminalModes{ssh.ECHO: 0})
		var err error
		if command == "" {
			in, pipeErr := x.StdinPipe()
			if pipeErr != nil {
				t.Fatal(pipeErr)
			}
			err = x.Shell()
			if _, writeErr := io.WriteString(in, "exit\n"); writeErr != nil {
				t.Fatal(writeErr)
			}
		} else {
			err = x.Start(command)
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(x.lines)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	banners := func(o *Options, _ *agentexec.Options) {
		o.Banners = func() []Banner {
			return []Banner{{true, " hello\nthere \n"}, {false, "disabled"}, {true, "  "}}
		}
	}
	const banner, message = "hello\r\nthere\r\n\r\n", "one\r\ntwo\r\n"
	t.Run("a login shows both", func(t *testing.T) {
		w := newWorld(t, banners)
		motd(w)
		if got := login(t, w, ""); !strings.HasPrefix(got, banner+message) {
			t.Errorf("output = %q", got)
		}
	})
	t.Run("hushlogin leaves the announcements", func(t *testing.T) {
		w := newWorld(t, banners)
		motd(w)
		if err := os.WriteFile(filepath.Join(w.home, ".hushlogin"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := login(t, w, ""); !strings.HasPrefix(got, banner) || strings.Contains(got, "one") {
			t.Errorf("output = %q", got)
		}
	})
	t.Run("a missing file is fine", func(t *testing.T) {
		w := newWorld(t)
		w.builder.Update(agentexec.Settings{MOTDFile: "~/gone"})
		login(t, w, "")
		if w.total("agent_sessions_errors_total") != 0 {
			t.Error("counted as an error")
		}
	})
	t.Run("a command shows nothing", func(t *testing.T) {
		w := newWorld(t, banners)
		motd(w)
		if got := login(t, w, "echo only"); got != "only\r\n" {
			t.Errorf("output = %q", got)
		}
	})
}

func TestParseModes(t *testing.T) {
	tests := []struct {
		name, in string
		want     []mode
	}{
		{"nothing", "", nil},
		{"up to the end mark", "\x35\x00\x00\x00\x01\x00\x36\x00\x00\x00\x01", []mode{{ssh.ECHO, 1}}},
		{"without end mark", "\x35\x00\x00\x00\x00", []mode{{ssh.ECHO, 0}}},
		{"cut off", "\x35\x00\x00\x00\x01\x36\x00", []mode{{ssh.ECHO, 1}}},
		{"up to what has no known length", "\x35\x00\x00\x00\x01\xa0\x00\x00\x00\x01", []mode{{ssh.ECHO, 1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parseModes([]byte(tt.in)), cmp.AllowUnexported(mode{})); diff != "" {
				t.Errorf("modes (-want +got):\n%s", diff)
			}
		})
	}
}
