package agentpty

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/testtool"
)

func TestMain(m *testing.M) {
	testtool.MindHangUps()
	testtool.Main(m)
}

const patience = time.Minute

// report is one ended connection as it was reported.
type report struct {
	Kind, IP string
	Code     int
	Reason   string
}

// reporter records connection reports.
type reporter struct {
	mu    sync.Mutex
	open  map[uuid.UUID]report
	ended []report
}

func (r *reporter) Connected(id uuid.UUID, kind stats.Kind, ip string, _ time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = make(map[uuid.UUID]report)
	}
	r.open[id] = report{Kind: kind.App, IP: ip}
}

func (r *reporter) Disconnected(id uuid.UUID, code int, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.open[id]
	delete(r.open, id)
	e.Code, e.Reason = code, reason
	r.ended = append(r.ended, e)
}

func (r *reporter) reports() []report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ended)
}

// fixture is a server on a loopback port.
type fixture struct {
	t     *testing.T
	s     *Server
	addr  string
	tally *stats.Tally
	rep   *reporter
}

func newFixture(t *testing.T, change func(*Options)) *fixture {
	t.Helper()
	commands, err := agentexec.New(agentexec.Options{Home: t.TempDir(), Shell: "/bin/sh"})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, tally: stats.New(stats.Options{}), rep: &reporter{}}
	o := Options{
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Commands: commands, Tally: f.tally,
		Connections: f.rep, TempDir: t.TempDir(),
	}
	if change != nil {
		change(&o)
	}
	if f.s, err = New(o); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- f.s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := f.s.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return f
}

// value returns the counter whose name and label values are given.
func (f *fixture) value(name string, labelValues ...string) float64 {
	for _, s := range f.tally.Snapshot().Totals {
		if s.Name != name {
			continue
		}
		var have []string
		for _, l := range s.Labels {
			have = append(have, l.Value)
		}
		if slices.Equal(have, labelValues) {
			return s.Value
		}
	}
	return 0
}

func (f *fixture) openSessions() (n int64) {
	for _, o := range f.tally.Snapshot().Gauges.Sessions {
		n += o.Count
	}
	return n
}

// client is a raw client; everything it receives is kept, or the last keep bytes.
type client struct {
	keep int
	t    *testing.T
	conn net.Conn
	mu   sync.Mutex
	got  bytes.Buffer
	end  error
	over chan struct{}
}

func (f *fixture) dial() *client {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	c := &client{t: f.t, conn: conn, over: make(chan struct{})}
	f.t.Cleanup(c.close)
	return c
}

// read starts to keep what arrives.
func (c *client) read() *client {
	go func() {
		defer close(c.over)
		buf := make([]byte, 32<<10)
		for {
			n, err := c.conn.Read(buf)
			c.mu.Lock()
			c.got.Write(buf[:n])
			if c.keep > 0 && c.got.Len() > c.keep {
				c.got.Next(c.got.Len() - c.keep)
			}
			c.end = err
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return c
}

func (c *client) close() { c.conn.Close() }

func (c *client) send(p []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(p); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) typed(data string) {
	c.t.Helper()
	b, err := json.Marshal(map[string]string{"data": data})
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(b)
}

func (c *client) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got.String()
}

func (c *client) waitFor(want string) {
	c.t.Helper()
	eventually(c.t, "output "+want, func() bool { return strings.Contains(c.text(), want) }, func() string { return c.text() })
}

// waitEnd waits until the server has closed in order.
func (c *client) waitEnd() {
	c.t.Helper()
	select {
	case <-c.over:
	case <-time.After(patience):
		c.t.Fatalf("the connection is still open; output %q", c.text())
	}
	if !errors.Is(c.end, io.EOF) {
		c.t.Errorf("the connection ended with %v, want EOF", c.end)
	}
}

const plainShell = "env -i PS1=demo$ TERM=xterm-256color LC_ALL=C.UTF-8 /bin/sh"

func helloBytes(t *testing.T, id uuid.UUID, backend, command string, height, width uint16) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"ID": id, "Height": height, "Width": width, "Command": command,
		"Container": "", "ContainerUser": "", "BackendType": backend,
	})
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.LittleEndian.AppendUint16(nil, uint16(len(body))), body...)
}

// open attaches a client to a terminal with a plain shell of 24 x 80.
func (f *fixture) open(id uuid.UUID, backend string) *client {
	f.t.Helper()
	c := f.dial().read()
	c.send(helloBytes(f.t, id, backend, plainShell, 24, 80))
	return c
}

func eventually(t *testing.T, what string, ok func() bool, have func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("still missing after %s: %s; have %q", patience, what, have())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("descriptors cannot be counted here")
	}
	return len(entries)
}
