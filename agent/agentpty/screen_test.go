package agentpty

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// skipOrFail skips on a developer's machine and fails where everything must be
// there.
func skipOrFail(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// sessions lists the screen daemons of ours with the name.
func sessions(name string) string {
	out, _ := exec.Command("screen", "-ls", name).CombinedOutput() // it fails if there are none
	return string(out)
}

// screenFixture keeps screen's sockets in a directory of its own.
func screenFixture(t *testing.T, change func(*Options)) *fixture {
	needScreen(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SCREENDIR", dir)
	return newFixture(t, change)
}

func (f *fixture) screenName() string {
	f.t.Helper()
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	for _, t := range f.s.terminals {
		if b, ok := t.back.(*screen); ok {
			return b.name
		}
	}
	f.t.Fatal("no terminal is kept by screen")
	return ""
}

func TestScreen_Reattach(t *testing.T) {
	f := screenFixture(t, nil)
	id := uuid.New()
	const command = `echo tty is $SSH_TTY; PS1=demo$ exec /bin/sh`
	open := func(h, w uint16) *client {
		c := f.dial().read()
		c.send(helloBytes(t, id, "", command, h, w))
		return c
	}
	a := open(24, 80)
	a.waitFor("tty is /dev/pts/")
	a.waitFor("demo$")
	name := f.screenName()
	a.typed("MARK=kept; echo one-$((1+1)); stty size\r")
	a.waitFor("one-2")
	a.waitFor("24 80")
	config := filepath.Join(f.s.o.TempDir, "coder-screen", "config")
	if info, err := os.Stat(config); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("settings of screen: %v, %v", info, err)
	}
	a.close()
	eventually(t, "detached", func() bool { return f.openSessions() == 0 }, func() string { return "" })

	b, c := open(30, 100), open(30, 100)
	b.waitFor("one-2") // redrawn
	c.waitFor("one-2")
	b.typed("echo $MARK-$((2+3)); stty size\r")
	b.waitFor("kept-5")
	c.waitFor("kept-5")
	b.waitFor("30 100")
	b.typed("exit\r")
	b.waitEnd()
	c.waitEnd()
	if f.terminals() != 1 {
		t.Error("the ID did not outlive the shell")
	}
	if out := sessions(name); strings.Contains(out, name) {
		t.Errorf("the daemon still runs:\n%s", out)
	}
	d := open(24, 80)
	d.waitFor("demo$")
	if strings.Contains(d.text(), "one-2") {
		t.Errorf("a new shell shows old output: %q", d.text())
	}
}

func TestScreen_EndsWhenNobodyComesBack(t *testing.T) {
	f := screenFixture(t, func(o *Options) { o.Timeout = 100 * time.Millisecond })
	c := f.open(uuid.New(), "screen")
	c.waitFor("demo$")
	name := f.screenName()
	if out := sessions(name); !strings.Contains(out, name) {
		t.Errorf("no daemon runs:\n%s", out)
	}
	c.close()
	eventually(t, "the end of the daemon", func() bool {
		return f.terminals() == 0 && !strings.Contains(sessions(name), name)
	}, func() string { return sessions(name) })
}

func TestScreen_CloseEndsTheDaemon(t *testing.T) {
	f := screenFixture(t, nil)
	c := f.open(uuid.New(), "screen")
	c.waitFor("demo$")
	name := f.screenName()
	if err := f.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := sessions(name); strings.Contains(out, name) {
		t.Errorf("the daemon still runs:\n%s", out)
	}
	if r := f.rep.reports(); len(r) != 1 || r[0].Code != 0 || r[0].Reason != "" {
		t.Errorf("reports %+v", r)
	}
}

func TestScreen_ThatDoesNotWork(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "screen")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho no way\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, func(o *Options) { o.ScreenPath = broken })
	c := f.open(uuid.New(), "screen")
	c.waitEnd()
	if !strings.Contains(c.text(), "screen ended at once") || !strings.Contains(c.text(), "no way") {
		t.Errorf("output = %q", c.text())
	}
	if got := f.value("agent_reconnecting_pty_errors_total", "screen_wait"); got != 1 {
		t.Errorf("%v errors counted", got)
	}
	eventually(t, "the end of the terminal", func() bool { return f.terminals() == 0 }, func() string { return "" })
}

func TestScreen_MissingMeansBuffered(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.ScreenPath = "none" })
	c := f.dial().read()
	c.send(helloBytes(t, uuid.New(), "", "echo hello", 24, 80))
	c.waitEnd()
	if c.text() != "hello\r\n" {
		t.Errorf("output = %q", c.text())
	}
	d := f.open(uuid.New(), "screen")
	d.waitEnd()
	if !strings.Contains(d.text(), "screen is switched off") {
		t.Errorf("output = %q", d.text())
	}
}
