//go:build unix

package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

func TestMain(m *testing.M) {
	testtool.MindHangUps()
	testtool.Main(m)
}

// patience bounds every wait for something that is due at once.
const patience = time.Minute

// running is an agent under test.
type running struct {
	*Agent
	o     Options
	log   *testtool.Buffer
	token string
	// stop asks the agent to stop and returns what Run returned.
	stop func() error
}

// newAgent makes an agent of the server that keeps to directories of its own.
func newAgent(t *testing.T, s *wiretest.Server, change func(*Options)) *running {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	r := &running{log: &testtool.Buffer{}, token: wiretest.Token}
	home := t.TempDir()
	r.o = Options{
		URL: s.URL, Token: func(context.Context) (string, error) { return r.token, nil },
		HTTPClient: &http.Client{Transport: transport},
		Log:        slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		LogDir:     t.TempDir(), ScriptDataDir: t.TempDir(), Executable: "/nonexistent/worktally-agent",
		Environ:      func() []string { return []string{"HOME=" + home, "PATH=/usr/bin:/bin", "SHELL=/bin/sh"} },
		ReconnectMin: time.Millisecond, ReconnectMax: 20 * time.Millisecond,
	}
	if change != nil {
		change(&r.o)
	}
	a, err := New(r.o)
	if err != nil {
		t.Fatal(err)
	}
	r.Agent = a
	return r
}

// run starts an agent that ends with the test, or with stop.
func run(t *testing.T, s *wiretest.Server, change func(*Options)) *running {
	t.Helper()
	r := newAgent(t, s, change)
	r.start(t)
	return r
}

func (r *running) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	var once sync.Once
	var result error
	r.stop = func() error {
		once.Do(func() {
			cancel()
			select {
			case result = <-ended:
			case <-time.After(2 * patience):
				t.Fatalf("the stop hangs; log:\n%s", r.log)
			}
		})
		return result
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil && !errors.Is(err, ErrReinit) {
			t.Errorf("Run = %v", err)
		}
		if strings.Contains(r.log.String(), r.token) {
			t.Error("the token is in the log")
		}
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
	})
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func listenUnix(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "pty"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// withSSH gives an agent an SSH listener and returns how to connect to it.
func withSSH(t *testing.T, o *Options) (dial func() (*ssh.Client, error), host *ssh.PublicKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	o.SSHListener = l
	o.AuthorizedKeys = func() ([]ssh.PublicKey, error) { return []ssh.PublicKey{key.PublicKey()}, nil }
	host = new(ssh.PublicKey)
	return func() (*ssh.Client, error) {
		return ssh.Dial("tcp", l.Addr().String(), &ssh.ClientConfig{
			User: "me", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, Timeout: patience,
			HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error { *host = k; return nil },
		})
	}, host
}

func mustDial(t *testing.T, dial func() (*ssh.Client, error)) *ssh.Client {
	t.Helper()
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func scrape(t *testing.T, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("scrape: %d, %v", w.Code, err)
	}
	return string(body)
}

// samples reads a page: "name{labels}" -> value, with sorted labels.
func samples(t *testing.T, page string) map[string]float64 {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]float64)
	var all model.Vector
	for _, f := range families {
		v, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: 1}, f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v...)
	}
	for _, s := range all {
		m[s.Metric.String()] = float64(s.Value)
	}
	return m
}

func states(s *wiretest.Server) []agentpb.Lifecycle_State {
	var got []agentpb.Lifecycle_State
	for _, r := range wiretest.Requests[*agentpb.UpdateLifecycleRequest](s.Service) {
		got = append(got, r.GetLifecycle().GetState())
	}
	return got
}
