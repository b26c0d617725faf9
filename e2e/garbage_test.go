package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/wire"
)

// silenceLimit is when the programs must have sent everybody away who is silent:
// the longest are a login to SSH and two pings, 30 s.
const silenceLimit = 90 * time.Second

// stranger is a connection of somebody who does not behave.
type stranger struct {
	name string
	say  []byte
	// stay: it keeps the connection open and says no more.
	stay bool
}

func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// strangers visit every listener, whatever it speaks.
func strangers(rng *rand.Rand) []stranger {
	pty := func(length int, text string) []byte {
		return append(binary.LittleEndian.AppendUint16(nil, uint16(length)), text...)
	}
	list := []stranger{
		{"nothing", nil, false},
		{"silence", nil, true},
		{"noise", noise(rng, 64<<10), false},
		{"noise and silence", noise(rng, 100), true},
		{"zeros", make([]byte, 64<<10), false},
		{"half a request", []byte("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: "), true},
		{"half a body", []byte("POST /api/v2/workspaces HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nname: x\n"), true},
		{"huge header", []byte("GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n\r\n"), false},
		{"many headers", []byte("GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 100_000)), false},
		{"bad chunk", []byte("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"), false},
		{"HTTP/2", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"), true},
		{"TLS", []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 100)), true},
		{"SSH banner", []byte("SSH-2.0-x\r\n"), true},
		{"SSH noise", append([]byte("SSH-2.0-x\r\n"), noise(rng, 1<<10)...), true},
		{"SSH endless banner", bytes.Repeat([]byte("banner"), 100_000), false},
		{"PTY huge hello", pty(65535, "{"), true},
		{"PTY bad hello", pty(10, `{"ID":"x"}`+"}}}}"), true},
		{"PTY empty hello", pty(0, ""), true},
	}
	for _, path := range []string{
		"/%00", "/../../../etc/passwd", "//", "/api/v2/../../x", "/api/v2/workspaceagents/me/rpc", "/api/v2/workspaceagents/me/reinit",
		"/derp", "/debug/pprof/%2e%2e", "*", "/" + strings.Repeat("x", 32<<10), "/metrics?name[]=\xff", "\x00",
	} {
		for _, method := range []string{"GET", "PUT", "BREW"} {
			list = append(list, stranger{method + " " + path[:min(len(path), 20)], []byte(method + " " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), false})
		}
	}
	return list
}

func TestGarbage_DisturbsNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startServer("--verbose")
	w.apply(spec("ws", ticking))
	debug, pprof := w.freeAddress(), w.freeAddress()
	w.startAgent("--debug-address", debug, "--pprof-address", pprof)
	other, err := w.server.Apply(t.Context(), w.write("other.yaml", spec("other", "")))
	w.must(err)
	h := w.hold()
	before := w.openFiles()

	listeners := map[string][2]string{
		"the server": {"tcp", w.server.Address}, "the server's page": {"tcp", w.server.Page}, "the agent's page": {"tcp", w.agent.Page},
		"SSH": {"tcp", w.agent.SSHAddress}, "terminals": {"unix", w.agent.PTYSocket}, "debug": {"tcp", debug}, "pprof": {"tcp", pprof},
	}
	var open openConns
	var visits sync.WaitGroup
	for name, at := range listeners {
		list := strangers(rand.New(rand.NewPCG(uint64(len(name)), 7)))
		visits.Go(func() {
			for range 2 {
				for _, s := range list {
					if err := open.visit(s, at[0], at[1]); err != nil {
						t.Errorf("%s at %s: %v", s.name, name, err)
					}
				}
			}
		})
	}
	visits.Go(func() { open.speechless(t, w.server.Address, other) })
	visits.Wait()

	// All of them are still there, and nobody minds.
	h.echo(w)
	w.awaitReport()
	for name, url := range map[string]string{
		"server": "http://" + w.server.Page + "/metrics", "agent": "http://" + w.agent.Page + "/metrics",
		"debug": "http://" + debug + "/debug/manifest", "pprof": "http://" + pprof + "/debug/pprof/cmdline", "api": "http://" + w.server.Address + "/api/v2/buildinfo",
	} {
		if _, err := stack.Get(t.Context(), url); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.must(w.oneCommandOf(1000))
	// Those who stay and say nothing are sent away: by the limits of a handshake, or
	// because they answer no ping.
	defer open.close()
	w.await(silenceLimit, "the programs let go of what strangers have open", func(context.Context) error {
		if now := w.openFiles(); now[0] > before[0]+3 || now[1] > before[1]+3 {
			return fmt.Errorf("open files: server and agent have %v, had %v", now, before)
		}
		return nil
	})
	h.end(w)
	w.await(patience, "the books balance", func(ctx context.Context) error { return w.balance(ctx, true) })
}

// openFiles returns how many files the server and the agent have open, but for the
// database: it is read over more connections when more is asked at once.
func (w *world) openFiles() (n [2]int) {
	w.t.Helper()
	for i, p := range []*stack.Program{w.server.Program, w.agent.Program} {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.PID()))
		w.must(err)
		if len(files) == 0 {
			testtool.Missing(w.t, "/proc does not tell what processes have open")
		}
		for _, f := range files {
			if link, err := os.Readlink(f); err == nil && !strings.HasPrefix(link, w.Path("server")) { // it may be closed by now
				n[i]++
			}
		}
	}
	return n
}

// openConns are the connections of those who stay.
type openConns struct {
	mu   sync.Mutex
	list []io.Closer
}

func (o *openConns) add(c io.Closer) {
	o.mu.Lock()
	o.list = append(o.list, c)
	o.mu.Unlock()
}

func (o *openConns) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.list {
		_ = c.Close()
	}
}

// visit says what the stranger has to say. Whether the program hears it to the
// end, and what it answers, is the program's business; that it listens is not.
func (o *openConns) visit(s stranger, network, address string) error {
	conn, err := net.DialTimeout(network, address, patience)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	_, _ = conn.Write(s.say)
	if s.stay {
		o.add(conn)
		return nil
	}
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	_, err = io.Copy(io.Discard, conn)
	_ = conn.Close()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the program does not close a finished connection: %w", err)
	}
	return nil
}

// speechless opens sessions of an agent that never speak, or speak nonsense, and
// such of nobody.
func (o *openConns) speechless(t *testing.T, address, token string) {
	const rpc = "/api/v2/workspaceagents/me/rpc?version=2.0"
	for i := range 20 {
		header := http.Header{}
		header.Set(wire.TokenHeader, token)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		ws, _, err := websocket.Dial(ctx, "ws://"+address+rpc, &websocket.DialOptions{HTTPHeader: header})
		cancel()
		if err != nil {
			t.Errorf("session %d: %v", i, err)
			return
		}
		conn := websocket.NetConn(context.Background(), ws, websocket.MessageBinary)
		o.add(conn)
		switch i % 4 {
		case 1:
			_, _ = conn.Write(noise(rand.New(rand.NewPCG(uint64(i), 1)), 4096))
		case 2: // a yamux stream that is opened, and noise on it
			_, _ = conn.Write(append([]byte{0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4, 0}, noise(rand.New(rand.NewPCG(uint64(i), 2)), 1024)...))
		case 3: // a frame that announces more than there is
			_, _ = conn.Write([]byte{0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff})
		}
	}
	if _, resp, err := websocket.Dial(t.Context(), "ws://"+address+rpc, nil); err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a session without a token: %v", err)
	}
}
