package agentssh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/testtool"
)

func TestMain(m *testing.M) {
	testtool.MindHangUps()
	testtool.Main(m)
}

// deadline is how long anything in these tests may take.
const deadline = time.Minute

// world is a server on loopback with a home of its own and a client key.
type world struct {
	t       testing.TB
	server  *Server
	builder *agentexec.Builder
	tally   *stats.Tally
	reports *reports
	home    string
	addr    string
	key     string // path of the client's private key
	signer  ssh.Signer
}

// setup may change the options of a world before it starts.
type setup func(*Options, *agentexec.Options)

func newWorld(t testing.TB, setups ...setup) *world {
	t.Helper()
	w := &world{t: t, tally: stats.New(stats.Options{}), reports: &reports{}, home: t.TempDir()}
	w.signer, w.key = newKey(t)
	hostKey, _ := newKey(t)
	public := w.signer.PublicKey()
	o := Options{
		Log: slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug})), Tally: w.tally, HostKey: hostKey, Connections: w.reports,
		AuthorizedKeys: func() ([]ssh.PublicKey, error) { return []ssh.PublicKey{public}, nil },
	}
	e := agentexec.Options{
		Home: w.home, Shell: "/bin/sh", Executable: "/opt/agent",
		Environ: func() []string { return []string{"PATH=" + os.Getenv("PATH"), "FROM_AGENT=agent"} },
	}
	for _, s := range setups {
		s(&o, &e)
	}
	var err error
	if w.builder, err = agentexec.New(e); err != nil {
		t.Fatal(err)
	}
	o.Commands = w.builder
	if w.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := w.server.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return w
}

func newKey(t testing.TB) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, path
}

// dial connects a client of the Go library.
func (w *world) dial() *ssh.Client {
	w.t.Helper()
	client, err := ssh.Dial("tcp", w.addr, w.clientConfig())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { client.Close() })
	return client
}

func (w *world) clientConfig() *ssh.ClientConfig {
	return &ssh.ClientConfig{User: "anybody", Auth: []ssh.AuthMethod{ssh.PublicKeys(w.signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: deadline}
}

func (w *world) session(c *ssh.Client) *ssh.Session {
	w.t.Helper()
	s, err := c.NewSession()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close() })
	return s
}

// result is what a client program did.
type result struct {
	stdout, stderr string
	code           int
}

// tool runs a program with a time limit.
func (w *world) tool(stdin io.Reader, env []string, name string, args ...string) result {
	w.t.Helper()
	need(w.t, name)
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	cmd.WaitDelay = 10 * time.Second // a busy machine takes its time to copy what is left
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		w.t.Fatalf("%s %q: %v\n%.2000s%.2000s", name, args, err, stdout.String(), stderr.String())
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// sshOptions are those with which every OpenSSH program reaches the server.
func (w *world) sshOptions() []string {
	return []string{
		"-F", "/dev/null", "-i", w.key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-o", "Port=" + w.port(),
	}
}

func (w *world) port() string {
	_, port, _ := net.SplitHostPort(w.addr)
	return port
}

// ssh runs OpenSSH's client; extra come before the host.
func (w *world) ssh(extra []string, command ...string) result {
	w.t.Helper()
	args := append(append(w.sshOptions(), extra...), "me@127.0.0.1")
	return w.tool(nil, nil, "ssh", append(args, command...)...)
}

func need(t testing.TB, name string) {
	t.Helper()
	testtool.Find(t, name)
}

// eventually polls a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(deadline)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// total returns the value of a counter with the given labels, name and value in
// turn.
func (w *world) total(name string, labels ...string) float64 {
	var sum float64
series:
	for _, s := range w.tally.Snapshot().Totals {
		if s.Name != name {
			continue
		}
		for i := 0; i < len(labels); i += 2 {
			found := false
			for _, l := range s.Labels {
				found = found || l.Name == labels[i] && l.Value == labels[i+1]
			}
			if !found {
				continue series
			}
		}
		sum += s.Value
	}
	return sum
}

func (w *world) open() int {
	n := 0
	for _, s := range w.tally.Snapshot().Gauges.Sessions {
		n += int(s.Count)
	}
	return n
}

func (w *world) ended(reason stats.EndReason) float64 {
	return w.total("agent_sessions_ended_total", "reason", string(reason))
}

// reports is a Reporter that remembers.
type reports struct {
	mu           sync.Mutex
	connected    []ConnEvent
	disconnected []disconnect
}

type disconnect struct {
	ID     uuid.UUID
	Code   int
	Reason string
}

func (r *reports) Connected(e ConnEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.connected = append(r.connected, e)
}

func (r *reports) Disconnected(id uuid.UUID, code int, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.disconnected = append(r.disconnected, disconnect{id, code, reason})
}

func (r *reports) all() ([]ConnEvent, []disconnect) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]ConnEvent(nil), r.connected...), append([]disconnect(nil), r.disconnected...)
}

// ends waits until the ends of exactly n sessions are reported, each of which comes
// after it was counted, and returns them.
func (w *world) ends(t *testing.T, n int) []disconnect {
	t.Helper()
	eventually(t, "the reports of the ends", func() bool { _, d := w.reports.all(); return len(d) >= n })
	_, d := w.reports.all()
	if len(d) != n {
		t.Fatalf("%d ends reported, want %d: %+v", len(d), n, d)
	}
	return d
}

// testLog shows the server's log with the test that fails.
type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// read returns a file of the home, "" if there is none.
func (w *world) read(name string) string {
	b, _ := os.ReadFile(filepath.Join(w.home, name))
	return string(b)
}
