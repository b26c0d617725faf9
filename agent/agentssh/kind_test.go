package agentssh

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

// apps returns the open sessions by application.
func (w *world) apps() map[string]int64 {
	m := make(map[string]int64)
	for _, s := range w.tally.Snapshot().Gauges.Sessions {
		m[s.App] = s.Count
	}
	return m
}

func TestServer_MarkerNamesTheKind(t *testing.T) {
	tests := []struct {
		name, marker, app string
	}{
		{"vscode", "VSCode", "vscode"},
		{"a name of its own", "Zed", "zed"},
		{"the last one wins", "", "cursor"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			s := w.session(w.dial())
			values := []string{tt.marker}
			if tt.marker == "" {
				values = []string{"vscode", "cursor"}
			}
			for _, v := range values {
				if err := s.Setenv("CODER_SSH_SESSION_TYPE", v); err != nil {
					t.Fatal(err)
				}
			}
			out, err := s.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.StdinPipe(); err != nil { // or the input would end at once
				t.Fatal(err)
			}
			if err := s.Start("echo .$CODER_SSH_SESSION_TYPE.; cat"); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 3)
			if _, err := io.ReadFull(out, b); err != nil || string(b) != "..\n" {
				t.Errorf("the command sees %q, %v", b, err)
			}
			if diff := cmp.Diff(map[string]int64{tt.app: 1}, w.apps()); diff != "" {
				t.Errorf("open sessions (-want +got):\n%s", diff)
			}
			if c, _ := w.reports.all(); len(c) != 1 || c[0].Kind.App != tt.app {
				t.Errorf("connected = %+v", c)
			}
		})
	}
}

func TestServer_BootstrapOnStdinNamesTheKind(t *testing.T) {
	w := newWorld(t)
	s := w.session(w.dial())
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an ordinary session", func() bool { return cmp.Equal(w.apps(), map[string]int64{"ssh": 1}) })
	if _, err := io.WriteString(in, "SERVER=$HOME/.windsurf-"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "server/bin\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the editor's session", func() bool { return cmp.Equal(w.apps(), map[string]int64{"windsurf": 1}) })
	in.Close()
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	if w.total("agent_sessions_opened_total") != 1 || w.total("agent_sessions_ended_total", "family", "vscode", "reason", "exited") != 1 {
		t.Error("the session was not counted once, as the editor's")
	}
}

func TestServer_CommandNamesTheKind(t *testing.T) {
	w := newWorld(t)
	s := w.session(w.dial())
	if _, err := s.StdinPipe(); err != nil { // or the input would end at once
		t.Fatal(err)
	}
	if err := s.Start("cat $HOME/.cursor-server/token; cat"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the editor's session", func() bool { return cmp.Equal(w.apps(), map[string]int64{"cursor": 1}) })
}

// fakeProcesses says the same about every port.
type fakeProcesses struct{ facts stats.ForwardFacts }

func (f fakeProcesses) ListeningOnTCP(uint16) stats.ForwardFacts  { return f.facts }
func (f fakeProcesses) ListeningOnUnix(string) stats.ForwardFacts { return f.facts }

func TestServer_JetBrainsIsCountedByItsChannel(t *testing.T) {
	w := newWorld(t, func(o *Options, _ *agentexec.Options) {
		o.Processes = fakeProcesses{stats.ForwardFacts{CommandLine: "java -Didea.vendor.name=JetBrains Main"}}
	})
	c := w.dial()
	for range 3 {
		s := w.session(c)
		if err := s.Setenv("CODER_SSH_SESSION_TYPE", "JetBrains"); err != nil {
			t.Fatal(err)
		}
		if err := s.Run("true"); err != nil {
			t.Fatal(err)
		}
	}
	if connected, _ := w.reports.all(); len(connected) != 0 || w.total("agent_sessions_opened_total") != 0 {
		t.Errorf("sessions beside the channel were counted or reported: %+v", connected)
	}
	target := echo(t, "tcp", "127.0.0.1:0").Addr().String()
	ch, requests, err := c.OpenChannel("direct-tcpip", ssh.Marshal(directTo(t, target, "10.1.2.3")))
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	if diff := cmp.Diff(map[string]int64{"jetbrains": 1}, w.apps()); diff != "" {
		t.Errorf("open sessions (-want +got):\n%s", diff)
	}
	if err := ch.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(ch); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end", func() bool { _, d := w.reports.all(); return len(d) == 1 })
	connected, disconnected := w.reports.all()
	if connected[0].IP != "10.1.2.3" || connected[0].Kind.App != "jetbrains" || disconnected[0] != (disconnect{connected[0].ID, 0, ""}) {
		t.Errorf("reports = %+v, %+v", connected, disconnected)
	}
	if w.ended(stats.EndExited) != 1 || w.open() != 0 {
		t.Error("the channel was not counted once")
	}
}

func directTo(t *testing.T, target, origin string) directPayload {
	t.Helper()
	addr, err := net.ResolveTCPAddr("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	return directPayload{addr.IP.String(), uint32(addr.Port), origin, 1}
}

// editorServer runs a program from an editor's directory that listens as the
// argument for socat says.
func editorServer(t *testing.T, listen string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("processes are found on Linux only")
	}
	need(t, "socat")
	real, err := exec.LookPath("socat")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(real)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), ".vscode-server", "bin", "node")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, listen+",fork", "EXEC:cat")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

func TestServer_ForwardToAnEditorWithoutASession(t *testing.T) {
	port, socket := freePort(t), filepath.Join(t.TempDir(), "s")
	for name, target := range map[string][2]string{
		"port":   {"TCP-LISTEN:" + port + ",bind=127.0.0.1", "tcp 127.0.0.1:" + port},
		"socket": {"UNIX-LISTEN:" + socket, "unix " + socket},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			editorServer(t, target[0])
			network, address, _ := strings.Cut(target[1], " ")
			dialAsSoon(t, network, address).Close()
			c, err := w.dial().Dial(network, address)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the editor's session", func() bool { return cmp.Equal(w.apps(), map[string]int64{"vscode": 1}) })
			if _, err := fmt.Fprint(c, "x"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			c.Close()
			eventually(t, "its end", func() bool { return w.open() == 0 && w.total("agent_sessions_ended_total", "family", "vscode") == 1 })
		})
	}
}
