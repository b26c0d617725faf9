package agentpty

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestServer_HelloInPieces(t *testing.T) {
	f := newFixture(t, nil)
	c := f.dial().read()
	for _, b := range helloBytes(t, uuid.New(), "buffered", "stty size", 31, 97) {
		c.send([]byte{b})
	}
	c.waitEnd()
	if got := c.text(); got != "31 97\r\n" {
		t.Errorf("output = %q", got)
	}
}

func TestServer_MalformedHelloClosesSilently(t *testing.T) {
	sized := func(body string) []byte {
		return append(binary.LittleEndian.AppendUint16(nil, uint16(len(body))), body...)
	}
	f := newFixture(t, nil)
	inputs := map[string][]byte{
		"empty object":  sized(`{}`),
		"no object":     sized(`[1]`),
		"zero length":   sized(``),
		"size too big":  sized(`{"ID":"7b6c1f0e-3a52-4b7e-9d58-0f1c2d3e4a5b","Height":70000}`),
		"half a UUID":   sized(`{"ID":"7b6c1f0e"}`),
		"trailing text": sized(`{"ID":"7b6c1f0e-3a52-4b7e-9d58-0f1c2d3e4a5b"} x`),
	}
	for name, in := range inputs {
		t.Run(name, func(t *testing.T) {
			c := f.dial().read()
			c.send(in)
			c.waitEnd()
			if c.text() != "" {
				t.Errorf("answer %q", c.text())
			}
		})
	}
	eventually(t, "the reports", func() bool { return len(f.rep.reports()) == len(inputs) }, func() string { return "" })
	for _, r := range f.rep.reports() {
		if r.Code != 0 || r.Reason != "" {
			t.Errorf("report %+v, want one in order", r)
		}
	}
	if got := f.value("agent_sessions_ended_total", "reconnecting_pty", "failed"); got != float64(len(inputs)) {
		t.Errorf("%v sessions ended as failed", got)
	}
}

func TestServer_SilentClientIsDisconnected(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.HandshakeTimeout = 50 * time.Millisecond })
	c := f.dial().read()
	_, _ = c.conn.Write([]byte{7}) // it may come too late
	<-c.over                       // with a reset then
	eventually(t, "the end of the session", func() bool {
		return f.value("agent_sessions_ended_total", "reconnecting_pty", "timed_out") == 1
	}, func() string { return "" })
}

func TestServer_UnknownBackendIsRefusedClearly(t *testing.T) {
	f := newFixture(t, nil)
	c := f.open(uuid.New(), "tmux")
	c.waitEnd()
	if got, want := c.text(), "unknown terminal backend \"tmux\", want buffered or screen\r\n"; got != want {
		t.Errorf("output = %q, want %q", got, want)
	}
	eventually(t, "the report", func() bool { return len(f.rep.reports()) == 1 }, func() string { return "" })
	if r := f.rep.reports()[0]; r.Code != 1 || !strings.Contains(r.Reason, "tmux") {
		t.Errorf("report %+v", r)
	}
}

func TestServer_CommandThatCannotBeBuilt(t *testing.T) {
	f := newFixture(t, nil)
	id := uuid.New()
	for range 2 { // the ID is free again after the failure
		c := f.dial().read()
		c.send(helloBytes(t, id, "buffered", "#!\n", 24, 80))
		c.waitEnd()
		if !strings.Contains(c.text(), "interpreter") {
			t.Errorf("output = %q", c.text())
		}
		eventually(t, "the end of the terminal", func() bool { return f.terminals() == 0 }, func() string { return "" })
	}
	if got := f.value("agent_reconnecting_pty_errors_total", "create_command"); got != 2 {
		t.Errorf("%v errors counted", got)
	}
}

func (f *fixture) terminals() int {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return len(f.s.terminals)
}

func (f *fixture) connections() int {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return f.s.conns
}

func TestServer_TwoAttachments(t *testing.T) {
	f := newFixture(t, nil)
	id := uuid.New()
	a := f.open(id, "buffered")
	a.waitFor("demo$")
	b := f.open(id, "buffered")
	b.waitFor("demo$")
	a.typed("echo from-$((1+1))-a\r")
	a.waitFor("from-2-a")
	b.waitFor("from-2-a")
	b.typed("echo from-$((1+1))-b\r")
	a.waitFor("from-2-b")
	b.send([]byte("{\"height\":40,\"width\":120}\n  {\"height\":0,\"width\":5}{}"))
	b.typed("stty size\r")
	a.waitFor("40 120")
	if got := f.openSessions(); got != 2 {
		t.Errorf("%d sessions are open, want 2", got)
	}
	a.close()
	eventually(t, "one session less", func() bool { return f.openSessions() == 1 }, func() string { return "" })
	b.typed("exit\r")
	b.waitEnd()
	eventually(t, "the end of the terminal", func() bool { return f.terminals() == 0 && f.openSessions() == 0 }, func() string { return "" })
	c := f.open(id, "buffered")
	c.waitFor("demo$")
	if strings.Contains(c.text(), "from") {
		t.Errorf("a new terminal shows the output of the old one: %q", c.text())
	}
}

func TestServer_ReplayAfterMuchOutput(t *testing.T) {
	f := newFixture(t, nil)
	id := uuid.New()
	a := f.open(id, "buffered")
	a.waitFor("demo$")
	a.typed("i=0; while [ $i -lt 20000 ]; do echo line-$i; i=$((i+1)); done; echo the-$((1))-end\r")
	a.waitFor("the-1-end\r\ndemo$") // all of it, or b sees the rest beside the replay
	for _, i := range []int{0, 9999, 19999} {
		if !strings.Contains(a.text(), fmt.Sprintf("\nline-%d\r\n", i)) {
			t.Errorf("line %d is missing", i)
		}
	}
	a.close()
	b := f.open(id, "buffered")
	b.waitFor("the-1-end")
	if !strings.HasPrefix(b.text(), "line-") || len(b.text()) > replayBytes {
		t.Errorf("the replay of %d bytes starts with %.20q", len(b.text()), b.text())
	}
}

func TestServer_ClientThatTakesNothingIsDropped(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Patience = 3 * time.Second })
	id := uuid.New()
	good := f.dial()
	good.keep = 1 << 10
	good.read()
	good.send(helloBytes(t, id, "buffered", plainShell, 24, 80))
	good.waitFor("demo$")
	stuck := f.dial()
	stuck.send(helloBytes(t, id, "buffered", plainShell, 24, 80))
	// It sees the replay and nothing more. Were it attached later, it might miss all
	// of what follows.
	if _, err := io.ReadFull(stuck.conn, make([]byte, len("demo$"))); err != nil {
		t.Fatal(err)
	}
	// More than all the buffers between hold.
	good.typed("head -c 20000000 /dev/zero | tr '\\0' x; echo; echo the-$((1))-end\r")
	good.waitFor("the-1-end")
	eventually(t, "one drop", func() bool { return f.value("agent_dropped_total", "terminals") == 1 }, func() string { return "" })
	eventually(t, "the report", func() bool { return len(f.rep.reports()) == 1 }, func() string { return "" })
	if r := f.rep.reports()[0]; r.Code != 1 || r.Reason != errTooSlow.Error() {
		t.Errorf("report %+v", r)
	}
}

func TestServer_IdleTerminalEnds(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Timeout = 200 * time.Millisecond })
	id := uuid.New()
	a := f.open(id, "buffered")
	a.waitFor("demo$")
	a.typed("echo $$-pid\r")
	a.waitFor("-pid\r\n")
	// Attached it lives longer than the timeout.
	b := f.open(uuid.New(), "buffered")
	b.waitFor("demo$")
	b.close()
	eventually(t, "the end of the idle terminal", func() bool { return f.terminals() == 1 }, func() string { return "" })
	a.typed("echo still-$((1))\r")
	a.waitFor("still-1")
	a.close()
	eventually(t, "the end of the other", func() bool { return f.terminals() == 0 }, func() string { return "" })
}

func TestServer_Bounds(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.MaxTerminals, o.MaxConnections = 1, 2 })
	a := f.open(uuid.New(), "buffered")
	a.waitFor("demo$")
	b := f.open(uuid.New(), "buffered")
	b.waitEnd()
	if got, want := b.text(), "too many terminals: 1 are open\r\n"; got != want {
		t.Errorf("output = %q, want %q", got, want)
	}
	eventually(t, "one connection", func() bool { return f.connections() == 1 }, func() string { return "" })
	c := f.dial() // says nothing and takes the last place
	eventually(t, "two sessions", func() bool { return f.openSessions() == 2 }, func() string { return "" })
	d := f.dial().read()
	<-d.over
	if got := f.value("agent_dropped_total", "terminals"); got != 2 {
		t.Errorf("%v refusals counted, want 2", got)
	}
	c.close()
}

func TestServer_BadMessageEndsTheConnectionNotTheTerminal(t *testing.T) {
	f := newFixture(t, nil)
	id := uuid.New()
	for _, bad := range []string{`{"data":7}`, `{"height":-1,"width":5}`, `nonsense`, `"` + strings.Repeat("x", 3*maxMessage)} {
		c := f.open(id, "buffered")
		c.waitFor("demo$")
		_, _ = c.conn.Write([]byte(bad)) // the server may hang up before the end
		<-c.over
	}
	eventually(t, "the reports", func() bool { return len(f.rep.reports()) == 4 }, func() string { return "" })
	for _, r := range f.rep.reports() {
		if r.Code != 1 || !strings.HasPrefix(r.Reason, "read message: ") {
			t.Errorf("report %+v", r)
		}
	}
	if f.terminals() != 1 {
		t.Error("the terminal is gone")
	}
}

func TestServer_CloseWithSessionsOpen(t *testing.T) {
	before := openFiles(t)
	f := newFixture(t, nil)
	var clients []*client
	for range 3 {
		c := f.open(uuid.New(), "buffered")
		c.waitFor("demo$")
		c.typed("trap '' HUP; sleep 3 &\r")
		c.waitFor("sleep 3")
		clients = append(clients, c)
	}
	clients = append(clients, f.dial().read()) // no hello yet
	eventually(t, "four sessions", func() bool { return f.openSessions() == 4 }, func() string { return "" })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		<-c.over
		c.close()
	}
	want := map[report]int{
		{Kind: "reconnecting_pty", IP: "127.0.0.1"}:                                          3,
		{Kind: "reconnecting_pty", IP: "127.0.0.1", Code: 1, Reason: "server shutting down"}: 1,
	}
	got := make(map[report]int)
	for _, r := range f.rep.reports() {
		got[r]++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
	if n := f.value("agent_sessions_ended_total", "reconnecting_pty", "shutdown"); n != 4 || f.openSessions() != 0 {
		t.Errorf("%v sessions ended by shutdown, %d open", n, f.openSessions())
	}
	eventually(t, "closed descriptors", func() bool { return openFiles(t) <= before }, func() string { return fmt.Sprint(before, openFiles(t)) })
}

func TestServer_Storm(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Timeout = time.Millisecond })
	done := make(chan struct{})
	const workers, rounds = 4, 10
	ids := []uuid.UUID{uuid.New(), uuid.New()}
	for w := range workers {
		go func() {
			defer func() { done <- struct{}{} }()
			for range rounds {
				c := f.dial().read()
				c.send(helloBytes(t, ids[w%2], "buffered", "cat", 24, 80))
				c.typed("hello\r")
				eventually(t, "echo or end", func() bool {
					select {
					case <-c.over:
						return true
					default:
						return strings.Contains(c.text(), "hello")
					}
				}, c.text)
				c.close()
			}
		}()
	}
	for range workers {
		<-done
	}
	eventually(t, "the end of all", func() bool { return f.openSessions() == 0 && f.terminals() == 0 }, func() string { return "" })
	if got := f.value("agent_reconnecting_pty_connections_total"); got != workers*rounds {
		t.Errorf("%v connections counted, want %d", got, workers*rounds)
	}
}

func needScreen(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("screen"); err != nil {
		skipOrFail(t, "screen is not installed")
	}
}
