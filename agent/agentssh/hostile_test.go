package agentssh

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/internal/testtool"
)

// witness is a well-behaved client, connected before the others come, whose
// session must go on whatever they do.
type witness struct {
	w   *world
	in  io.WriteCloser
	out io.Reader
	// goroutines and heap are what the process had when nobody else was there.
	goroutines int
	heap       uint64
}

func newWitness(w *world) *witness {
	w.t.Helper()
	s := w.session(w.dial())
	in, err := s.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := s.Start("cat"); err != nil {
		w.t.Fatal(err)
	}
	v := &witness{w: w, in: in, out: out}
	v.check("at the start")
	v.goroutines, v.heap = runtime.NumGoroutine(), heapNow()
	return v
}

// check has the session answer.
func (v *witness) check(when string) {
	v.w.t.Helper()
	answer := make(chan error, 1)
	go func() {
		if _, err := io.WriteString(v.in, "still here\n"); err != nil {
			answer <- err
			return
		}
		b := make([]byte, len("still here\n"))
		_, err := io.ReadFull(v.out, b)
		answer <- err
	}()
	select {
	case err := <-answer:
		if err != nil {
			v.w.t.Fatalf("%s: the other session: %v", when, err)
		}
	case <-time.After(deadline):
		v.w.t.Fatalf("%s: the other session does not answer", when)
	}
}

// grown fails if the heap has grown by more than so many MiB.
func (v *witness) grown(limit uint64) {
	v.w.t.Helper()
	if now := heapNow(); now > v.heap+limit<<20 {
		v.w.t.Errorf("the heap grew from %d to %d KiB", v.heap>>10, now>>10)
	}
}

// settled waits until all that the hostile clients brought to life is gone, and
// has a new client come in.
func (v *witness) settled(t *testing.T) {
	t.Helper()
	eventually(t, "goroutines as before", func() bool { return runtime.NumGoroutine() <= v.goroutines })
	v.check("at the end")
	if out, err := v.w.session(v.w.dial()).Output("echo in"); err != nil || string(out) != "in\n" {
		t.Errorf("a new client: %q, %v", out, err)
	}
}

func heapNow() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// raw connects without saying anything.
func (w *world) raw() net.Conn {
	w.t.Helper()
	nc, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(deadline))
	return nc
}

// refused waits until the server has closed the connection, and returns how long
// that took.
func refused(t *testing.T, what string, nc net.Conn) time.Duration {
	t.Helper()
	begin := time.Now()
	if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: the connection is still open", what)
	}
	nc.Close()
	return time.Since(begin)
}

func (w *world) failedHandshakes() float64 {
	return w.total("agent_ssh_server_failed_connections_total")
}

// TestHostile_Banners: what is not a version of SSH is not kept until it is.
func TestHostile_Banners(t *testing.T) {
	w := newWorld(t)
	v := newWitness(w)
	for what, sent := range map[string][]byte{
		"a banner of 100,000 bytes":    bytes.Repeat([]byte("A"), 100_000),
		"a version of 100,000 bytes":   append([]byte("SSH-2.0-"), bytes.Repeat([]byte("A"), 100_000)...),
		"100,000 lines":                bytes.Repeat([]byte("A\r\n"), 100_000),
		"zeros":                        make([]byte, 100_000),
		"a packet of 4 GiB":            packet(1<<32-1, 4, 20),
		"a packet of nothing":          packet(0, 0, 0),
		"a packet with padding alone":  packet(12, 255, 20),
		"a key exchange without lists": packet(28, 4, 20),
		"a packet before its time":     packet(12, 4, 94),
	} {
		nc := w.raw()
		_, _ = nc.Write(sent) // it may be refused before all of it is sent
		if took := refused(t, what, nc); took > 10*time.Second {
			t.Errorf("%s: refused after %v only", what, took)
		}
	}
	eventually(t, "the failures", func() bool { return w.failedHandshakes() == 9 })
	v.grown(8)
	v.settled(t)
}

// packet is a version and the beginning of an unencrypted packet.
func packet(length uint32, padding, kind byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte("SSH-2.0-hostile\r\n"), length)
	return append(append(b, padding, kind), make([]byte, 64)...)
}

// TestHostile_HalfOpen: those who connect and stay silent keep nobody out, and the
// oldest of them go.
func TestHostile_HalfOpen(t *testing.T) {
	const limit, silent = 16, 200
	w := newWorld(t, func(o *Options, _ *agentexec.Options) { o.MaxHandshakes, o.MaxConns = limit, 100 })
	v := newWitness(w)
	conns := make([]net.Conn, silent)
	for i := range conns {
		conns[i] = w.raw()
		if i%2 == 0 {
			_, _ = io.WriteString(conns[i], "SSH-2.0-half\r\n")
		}
	}
	eventually(t, "all but the newest gone", func() bool {
		return w.total("agent_dropped_total", "what", "ssh_handshakes") >= silent-limit && w.failedHandshakes() >= silent-limit
	})
	if n := w.total("agent_dropped_total", "what", "ssh_connections"); n != 0 {
		t.Errorf("%v connections were refused", n)
	}
	v.check("with the silent ones")
	if out, err := w.session(w.dial()).Output("echo in"); err != nil || string(out) != "in\n" {
		t.Errorf("a new client: %q, %v", out, err)
	}
	for _, nc := range conns {
		nc.Close()
	}
	eventually(t, "nobody in a handshake", func() bool {
		w.server.handshakes.mu.Lock()
		defer w.server.handshakes.mu.Unlock()
		return len(w.server.handshakes.open) == 0
	})
}

// flipper is a connection that changes one bit of what is written to it.
type flipper struct {
	net.Conn
	at  int // the byte, counted from the start
	bit byte
}

func (f *flipper) Write(p []byte) (int, error) {
	if f.at >= 0 && f.at < len(p) {
		p = bytes.Clone(p)
		p[f.at] ^= 1 << f.bit
	}
	f.at -= len(p)
	return f.Conn.Write(p)
}

// TestHostile_FlippedBytes changes a bit at many places of a client's bytes, from
// its version to the data of its session. Whoever is not refused gets the right
// answer.
func TestHostile_FlippedBytes(t *testing.T) {
	w := newWorld(t, func(o *Options, _ *agentexec.Options) { o.HandshakeTimeout = 10 * time.Second })
	v := newWitness(w)
	const step, last, text = 11, 6000, "what is sent comes back\n"
	var wrong, refusals atomic.Int64
	places := make(chan int)
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for at := range places {
				out, err := w.flipped(at, text)
				if err != nil {
					refusals.Add(1)
				} else if out != text {
					wrong.Add(1)
				}
			}
		})
	}
	for at := 0; at < last; at += step {
		places <- at
	}
	close(places)
	all.Wait()
	if wrong.Load() > 0 || refusals.Load() < last/step/2 {
		t.Errorf("%d answers were wrong, %d clients refused", wrong.Load(), refusals.Load())
	}
	if w.failedHandshakes() == 0 {
		t.Error("no handshake failed")
	}
	v.grown(16)
	v.settled(t)
}

// flipped has a client with one bit changed send text to a session and returns
// what comes back.
func (w *world) flipped(at int, text string) (string, error) {
	nc, err := net.Dial("tcp", w.addr)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(3 * time.Second)) // what lost its length waits for more
	conn, channels, requests, err := ssh.NewClientConn(&flipper{nc, at, byte(at % 8)}, w.addr, w.clientConfig())
	if err != nil {
		return "", err
	}
	c := ssh.NewClient(conn, channels, requests)
	defer c.Close()
	s, err := c.NewSession()
	if err != nil {
		return "", err
	}
	s.Stdin = strings.NewReader(text)
	out, err := s.Output("cat")
	return string(out), err
}

// TestHostile_NamesAreNotLogged: the error of a handshake quotes all that the other
// side offers, which may be long.
func TestHostile_NamesAreNotLogged(t *testing.T) {
	var log testtool.Buffer
	w := newWorld(t, func(o *Options, _ *agentexec.Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	payload := append([]byte{20}, make([]byte, 16)...) // SSH_MSG_KEXINIT and its cookie
	for range 10 {
		payload = binary.BigEndian.AppendUint32(payload, 20_000)
		payload = append(payload, bytes.Repeat([]byte("x"), 20_000)...)
	}
	payload = append(payload, 0, 0, 0, 0, 0)
	padding := 16 - (5+len(payload))%8
	nc := w.raw()
	b := binary.BigEndian.AppendUint32([]byte("SSH-2.0-hostile\r\n"), uint32(1+len(payload)+padding))
	b = append(append(b, byte(padding)), payload...)
	if _, err := nc.Write(append(b, make([]byte, padding)...)); err != nil {
		t.Fatal(err)
	}
	refused(t, "a client without a common algorithm", nc)
	eventually(t, "the log", func() bool { return strings.Contains(log.String(), "did not succeed") })
	if text := log.String(); !strings.Contains(text, "no common algorithm") || len(text) > 1000 {
		t.Errorf("logged %d bytes: %.1000s", len(text), text)
	}
}
