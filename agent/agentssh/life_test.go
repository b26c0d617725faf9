package agentssh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

func TestConnection_Keepalive(t *testing.T) {
	// run starts keepalives of a 3 s limit and returns how long they went on
	// before the client was given up, within a minute.
	run := func(t *testing.T, send func(c *connection) error) (gaveUp time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			c := &connection{srv: &Server{o: Options{MaxTimeout: 3 * time.Second}}, log: slog.New(slog.DiscardHandler)}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			begin := time.Now()
			c.keepalive(ctx, func() error { return send(c) }, func(err error) {
				if !errors.Is(err, errTimedOut) {
					t.Errorf("cause = %v", err)
				}
				gaveUp = time.Since(begin)
			})
			c.wg.Wait()
		})
		return gaveUp
	}
	silent := func(*connection) error { time.Sleep(2 * time.Minute); return nil }
	if got := run(t, silent); got != 4*time.Second {
		t.Errorf("a silent client was given up after %v, want one tick after the third unanswered", got)
	}
	if got := run(t, func(*connection) error { return nil }); got != 0 {
		t.Errorf("a client that answers was given up after %v", got)
	}
	slow := func(*connection) error { time.Sleep(2500 * time.Millisecond); return nil }
	if got := run(t, slow); got != 0 {
		t.Errorf("a slow client was given up after %v", got)
	}
	busy := func(c *connection) error {
		for range 60 { // asks for something all the time, but answers nothing
			time.Sleep(time.Second)
			c.heard.Add(1)
		}
		return nil
	}
	if got := run(t, busy); got != 0 {
		t.Errorf("a busy client was given up after %v", got)
	}
}

func TestServer_SilentClientTimesOut(t *testing.T) {
	w := newWorld(t, func(o *Options, _ *agentexec.Options) { o.MaxTimeout = 3 * time.Second })
	cmd := w.background(nil)
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the time-out", func() bool { return w.ended(stats.EndTimedOut) == 1 && w.open() == 0 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
}

func TestServer_ShortLimitIsADeadline(t *testing.T) {
	w := newWorld(t, func(o *Options, _ *agentexec.Options) { o.MaxTimeout = 3*time.Second - 1 }) // as long as it may be
	var missing *ssh.ExitMissingError
	if err := w.session(w.dial()).Run("sleep 600"); !errors.As(err, &missing) {
		t.Errorf("run = %v", err)
	}
	eventually(t, "the count", func() bool { return w.ended(stats.EndTimedOut) == 1 })
}

func TestServer_HandshakeFailuresAreCounted(t *testing.T) {
	w := newWorld(t, func(o *Options, _ *agentexec.Options) { o.HandshakeTimeout = 6 * time.Second })
	_, stranger := newKey(t)
	got := w.tool(nil, nil, "ssh", append([]string{"-i", stranger}, append(w.sshOptions()[4:], "me@127.0.0.1", "true")...)...)
	if got.code != 255 || !strings.Contains(got.stderr, "Permission denied") {
		t.Errorf("result = %+v", got)
	}
	silent, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	garbage, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer garbage.Close()
	if _, err := garbage.Write(bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 100)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three failures", func() bool { return w.total("agent_ssh_server_failed_connections_total") == 3 })
}

func TestServer_TrustedConnectionsNeedNoKey(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			w.server.HandleTrusted(nc)
		}
	}()
	c, err := ssh.Dial("tcp", l.Addr().String(), &ssh.ClientConfig{User: "x", HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.session(c).Run("true"); err != nil {
		t.Error(err)
	}
	if _, err := ssh.Dial("tcp", w.addr, &ssh.ClientConfig{User: "x", HostKeyCallback: ssh.InsecureIgnoreHostKey()}); err == nil {
		t.Error("the other listener asked for no key either")
	}
	c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := w.server.Close(ctx); err != nil {
		t.Error(err)
	}
	late, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if n, err := late.Read(make([]byte, 1)); err == nil {
		t.Errorf("a closed server said %d bytes", n)
	}
	if err := w.server.Serve(l); err != nil {
		t.Errorf("serve after close = %v", err)
	}
}

// stubChannel is a channel that only closes.
type stubChannel struct{ ssh.Channel }

func (stubChannel) Close() error { return nil }

// stubConn is a connection that only has an address.
type stubConn struct{ ssh.Conn }

func (stubConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5} }

func TestSession_RefusedWhileTheServerCloses(t *testing.T) {
	tally, told := stats.New(stats.Options{}), &reports{}
	srv := &Server{o: Options{Tally: tally, Connections: told}, log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errShutdown)
	s := &session{c: &connection{srv: srv, sc: &ssh.ServerConn{Conn: stubConn{}}, tally: tally.OpenConn()}, ch: stubChannel{}, ctx: ctx}
	s.run(job{command: "true"})
	connected, disconnected := told.all()
	if len(connected) != 1 || connected[0].Kind.App != "ssh" || connected[0].IP != "10.0.0.1" {
		t.Fatalf("connected = %+v", connected)
	}
	if diff := cmp.Diff([]disconnect{{connected[0].ID, 1, "unable to accept new session, server is closing"}}, disconnected); diff != "" {
		t.Errorf("disconnected (-want +got):\n%s", diff)
	}
	for _, total := range tally.Snapshot().Totals {
		if total.Value != 0 {
			t.Errorf("%s counts %v for a session that was refused", total.Name, total.Value)
		}
	}
}

func TestServer_OffersNoWeakAlgorithms(t *testing.T) {
	w := newWorld(t)
	for option, want := range map[string]string{
		"KexAlgorithms=ecdh-sha2-nistp256,diffie-hellman-group14-sha256": "no matching key exchange",
		"HostKeyAlgorithms=ssh-rsa,rsa-sha2-512":                         "no matching host key type",
	} {
		// OpenSSH takes the first value that it sees.
		args := append([]string{"-o", option, "-o", "LogLevel=INFO"}, w.sshOptions()...)
		if got := w.tool(nil, nil, "ssh", append(args, "me@127.0.0.1", "true")...); got.code != 255 || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v", option, got)
		}
	}
	for _, cipher := range []string{"aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr"} {
		if got := w.ssh([]string{"-c", cipher}, "true"); got.code != 0 {
			t.Errorf("%s: %+v", cipher, got)
		}
	}
}

// BenchmarkServer_Output measures the way from a command to the client.
func BenchmarkServer_Output(b *testing.B) {
	w := newWorld(b)
	c := w.dial()
	const chunk = 64 << 20
	b.SetBytes(chunk)
	b.ReportAllocs()
	for b.Loop() {
		s := w.session(c)
		out, err := s.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Start("head -c " + strconv.Itoa(chunk) + " /dev/zero"); err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, out); err != nil || n != chunk {
			b.Fatal(n, err)
		}
	}
}

func TestNew_NamesWhatIsMissing(t *testing.T) {
	_, err := New(Options{MaxTimeout: -1})
	for _, want := range []string{"no Commands", "no Tally", "no HostKey", "timeout is negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want one that says %q", err, want)
		}
	}
}

func TestServer_StormIsCountedExactly(t *testing.T) {
	w := newWorld(t)
	// The first connection opens what stays open, like the poller.
	if err := w.session(w.dial()).Run("true"); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	const clients, rounds = 8, 6
	jobs := []func(*ssh.Session) error{
		func(s *ssh.Session) error { return s.Run("true") },
		func(s *ssh.Session) error { return s.Run("exit 3") },
		func(s *ssh.Session) error { // goes away at once
			if err := s.Start("cat"); err != nil {
				return err
			}
			if err := s.Close(); !errors.Is(err, io.EOF) { // cat may be quicker
				return err
			}
			return nil
		},
		func(s *ssh.Session) error {
			if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
				return err
			}
			return s.Run("echo x")
		},
		func(s *ssh.Session) error { return s.RequestSubsystem("sftp") },
	}
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			c, err := ssh.Dial("tcp", w.addr, w.clientConfig())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			var sessions sync.WaitGroup
			for range rounds {
				for _, job := range jobs {
					sessions.Go(func() {
						s, err := c.NewSession()
						if err != nil {
							t.Error(err)
							return
						}
						defer s.Close()
						var exit *ssh.ExitError
						if err := job(s); err != nil && !errors.As(err, &exit) {
							t.Errorf("client %d: %v", i, err)
						}
					})
				}
			}
			sessions.Wait()
		})
	}
	wg.Wait()
	want := float64(1 + clients*rounds*len(jobs))
	eventually(t, "the end of all sessions", func() bool { return w.open() == 0 && w.total("agent_sessions_ended_total") == want })
	if got := w.total("agent_sessions_opened_total"); got != want {
		t.Errorf("opened %v, want %v", got, want)
	}
	if got := w.total("agent_ssh_server_sftp_connections_total"); got != clients*rounds {
		t.Errorf("sftp sessions %v, want %v", got, clients*rounds)
	}
	w.ends(t, int(want))
	if connected, _ := w.reports.all(); len(connected) != int(want) {
		t.Errorf("%d connects, want %v", len(connected), want)
	}
	eventually(t, "the descriptors of before", func() bool { return descriptors(t) <= before })
}

// descriptors counts the open files of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs a process file system")
	}
	return len(names)
}

func TestLoadOrCreateHostKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	keys := make([]ssh.Signer, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = LoadOrCreateHostKey(dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k == nil || !bytes.Equal(k.PublicKey().Marshal(), keys[0].PublicKey().Marshal()) || k.PublicKey().Type() != ssh.KeyAlgoED25519 {
			t.Fatal("several keys were made")
		}
	}
	info, err := os.Stat(filepath.Join(dir, hostKeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file = %v, %v", info, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("files = %v", files)
	}
	if err := os.WriteFile(filepath.Join(dir, hostKeyFile), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateHostKey(dir); err == nil || !strings.Contains(err.Error(), "remove it") || errors.Is(err, ErrHostKeyNotKept) {
		t.Errorf("broken key: %v", err)
	}
	if _, err := LoadOrCreateHostKey(filepath.Join(dir, hostKeyFile, "state")); !errors.Is(err, ErrHostKeyNotKept) {
		t.Errorf("no place for a key: %v", err)
	}
}

func TestParseAuthorizedKeys(t *testing.T) {
	signer, _ := newKey(t)
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	data := "# comment\n\n" + line + " me@host\nrestrict,command=\"secret\" " + line + "\ngarbage\n  " + line + "\r\n"
	keys, warnings := ParseAuthorizedKeys([]byte(data))
	if len(keys) != 2 {
		t.Errorf("%d keys, want 2", len(keys))
	}
	if len(warnings) != 2 || !strings.HasPrefix(warnings[0].Error(), `line 4: key refused: option "restrict"`) || !strings.HasPrefix(warnings[1].Error(), "line 5: not a key") {
		t.Errorf("warnings = %v", warnings)
	}
}

func TestAuthorizedKeysFile(t *testing.T) {
	signer, _ := newKey(t)
	path := filepath.Join(t.TempDir(), "keys")
	var log bytes.Buffer
	load := AuthorizedKeysFile(path, slog.New(slog.NewTextHandler(&log, nil)))
	if _, err := load(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, append(ssh.MarshalAuthorizedKey(signer.PublicKey()), "bad\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if keys, err := load(); len(keys) != 1 || err != nil {
			t.Errorf("keys = %v, %v", keys, err)
		}
	}
	if n := strings.Count(log.String(), "line 2"); n != 1 {
		t.Errorf("warned %d times, want once", n)
	}
}
