package agentssh

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/freeport"
)

// echo is a server that sends back what it got, in upper case, when the client
// has finished: it needs the half close of both sides.
func echo(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b, err := io.ReadAll(c)
			if err == nil {
				_, _ = c.Write(bytes.ToUpper(b))
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l
}

// ask sends a text, ends its side and returns the answer.
func ask(c net.Conn, text string) (string, error) {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	closeWrite(c)
	b, err := io.ReadAll(c)
	return string(b), err
}

// background runs OpenSSH until the test ends and waits until it has logged in
// and done what its options ask for.
func (w *world) background(env []string, extra ...string) *exec.Cmd {
	w.t.Helper()
	need(w.t, "ssh")
	args := append(w.sshOptions(), "-o", "ExitOnForwardFailure=yes")
	args = append(append(args, extra...), "me@127.0.0.1", "echo ready; cat")
	cmd := exec.Command("ssh", args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		in.Close()
		end := time.AfterFunc(deadline, func() { _ = cmd.Process.Kill() })
		defer end.Stop()
		_ = cmd.Wait() // killed by the test in some cases
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		w.t.Fatalf("ssh said %q, %v: %s", line, err, stderr.String())
	}
	return cmd
}

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// wantAnswer asks through a forward. OpenSSH does not wait for a remote one to be
// granted before it runs the command that says ready.
func wantAnswer(t *testing.T, network, address string) {
	t.Helper()
	c := dialAsSoon(t, network, address)
	if got, err := ask(c, "hello"); got != "HELLO" || err != nil {
		t.Errorf("answer through %s = %q, %v", address, got, err)
	}
}

// dialAsSoon connects as soon as somebody listens there.
func dialAsSoon(t *testing.T, network, address string) (c net.Conn) {
	t.Helper()
	eventually(t, "a listener on "+address, func() (ok bool) {
		var err error
		c, err = net.Dial(network, address)
		return err == nil
	})
	return c
}

func TestServer_LocalForward(t *testing.T) {
	w := newWorld(t)
	port := freePort(t)
	w.background(nil, "-L", port+":"+echo(t, "tcp", "127.0.0.1:0").Addr().String())
	for range 3 {
		wantAnswer(t, "tcp", "127.0.0.1:"+port)
	}
}

func TestServer_LocalSocketForward(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	l := echo(t, "unix", filepath.Join(dir, "target"))
	w.background(nil, "-L", filepath.Join(dir, "local")+":"+l.Addr().String())
	wantAnswer(t, "unix", filepath.Join(dir, "local"))
}

func TestServer_RemoteForward(t *testing.T) {
	w := newWorld(t)
	port := freePort(t)
	w.background(nil, "-R", "127.0.0.1:"+port+":"+echo(t, "tcp", "127.0.0.1:0").Addr().String())
	for range 3 {
		wantAnswer(t, "tcp", "127.0.0.1:"+port)
	}
}

func TestServer_RemoteSocketForward(t *testing.T) {
	w := newWorld(t)
	l := echo(t, "tcp", "127.0.0.1:0")
	path := filepath.Join(w.home, "new", "remote")
	cmd := w.background(nil, "-R", path+":"+l.Addr().String())
	wantAnswer(t, "unix", path)
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory = %v, %v", info, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the socket's removal", func() bool { _, err := os.Stat(path); return os.IsNotExist(err) })
}

func TestServer_DynamicForward(t *testing.T) {
	w := newWorld(t)
	port := freePort(t)
	w.background(nil, "-D", port)
	target := echo(t, "tcp", "127.0.0.1:0").Addr().(*net.TCPAddr)
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	// SOCKS4: connect, port, address, empty user.
	if _, err := c.Write(append([]byte{4, 1, byte(target.Port >> 8), byte(target.Port)}, 127, 0, 0, 1, 0)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 8)
	if _, err := io.ReadFull(c, answer); err != nil || answer[1] != 90 {
		t.Fatalf("socks answer = %v, %v", answer, err)
	}
	if got, err := ask(c, "hello"); got != "HELLO" || err != nil {
		t.Errorf("answer = %q, %v", got, err)
	}
}

func TestServer_RemoteForwardRequests(t *testing.T) {
	w := newWorld(t)
	c := w.dial()
	request := func(name string, payload any) (bool, []byte) {
		t.Helper()
		ok, answer, err := c.SendRequest(name, true, ssh.Marshal(payload))
		if err != nil {
			t.Fatal(err)
		}
		return ok, answer
	}
	ok, answer := request("tcpip-forward", listenPayload{"127.0.0.1", 0})
	chosen, parsed := parse[portPayload](answer)
	if !ok || !parsed || chosen.Port == 0 {
		t.Fatalf("port 0: %v, %v", ok, answer)
	}
	if ok, _ := request("tcpip-forward", listenPayload{"127.0.0.1", chosen.Port}); ok {
		t.Error("the same port was given twice")
	}
	if ok, _ := request("cancel-tcpip-forward", listenPayload{"127.0.0.1", chosen.Port}); !ok {
		t.Error("cancel was refused")
	}
	if ok, _ := request("cancel-tcpip-forward", listenPayload{"127.0.0.1", chosen.Port}); ok {
		t.Error("cancel of what is not there was granted")
	}
	if _, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(int(chosen.Port))); err == nil {
		t.Error("still listening after cancel")
	}
	path := filepath.Join(w.home, "socket")
	if err := os.WriteFile(path, []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if ok, _ := request("streamlocal-forward@openssh.com", textPayload{path}); !ok {
			t.Errorf("streamlocal request %d was refused", i)
		}
	}
	for i := range 2 {
		if ok, _ := request("cancel-streamlocal-forward@openssh.com", textPayload{path}); !ok {
			t.Errorf("cancel %d was refused", i)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if ok, _ := request("streamlocal-forward@openssh.com", textPayload{path}); ok {
		t.Error("a directory was taken for a socket")
	}
}

func TestServer_SocketTakenOverByAnotherClient(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(w.home, "socket")
	first, second := w.dial(), w.dial()
	for _, c := range []*ssh.Client{first, second} {
		if ok, _, err := c.SendRequest("streamlocal-forward@openssh.com", true, ssh.Marshal(textPayload{path})); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if ok, _, err := first.SendRequest("cancel-streamlocal-forward@openssh.com", true, ssh.Marshal(textPayload{path})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the second client's socket was removed by the first: %v", err)
	}
}

func TestServer_ForwardToNowhere(t *testing.T) {
	w := newWorld(t)
	_, err := w.dial().Dial("tcp", "127.0.0.1:"+freePort(t))
	var open *ssh.OpenChannelError
	if !errors.As(err, &open) || open.Reason != ssh.ConnectionFailed || !strings.Contains(open.Message, "refused") {
		t.Errorf("dial = %v", err)
	}
}

func TestServer_BlockedForwards(t *testing.T) {
	w := newWorld(t, func(o *Options, _ *agentexec.Options) { o.BlockLocalForwarding, o.BlockReverseForwarding = true, true })
	c := w.dial()
	target := echo(t, "tcp", "127.0.0.1:0").Addr()
	_, err := c.Dial("tcp", target.String())
	var open *ssh.OpenChannelError
	if !errors.As(err, &open) || open.Reason != ssh.Prohibited || open.Message != "local port forwarding is disabled" {
		t.Errorf("dial = %v", err)
	}
	if _, err := c.Dial("unix", "/tmp/x"); !errors.As(err, &open) || open.Reason != ssh.Prohibited {
		t.Errorf("dial = %v", err)
	}
	if _, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("listened on a port")
	}
	if _, err := c.Listen("unix", filepath.Join(w.home, "s")); err == nil {
		t.Error("listened on a socket")
	}
}

func TestServer_Limits(t *testing.T) {
	w := newWorld(t, func(o *Options, _ *agentexec.Options) {
		o.MaxConns, o.MaxSessions, o.MaxForwards, o.MaxListeners = 1, 1, 1, 1
	})
	c := w.dial()
	var open *ssh.OpenChannelError
	first := w.session(c)
	if _, err := c.NewSession(); !errors.As(err, &open) || open.Reason != ssh.ResourceShortage {
		t.Errorf("second session = %v", err)
	}
	target := echo(t, "tcp", "127.0.0.1:0").Addr().String()
	forward, err := c.Dial("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Dial("tcp", target); !errors.As(err, &open) || open.Reason != ssh.ResourceShortage {
		t.Errorf("second forward = %v", err)
	}
	if _, err := c.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Error(err)
	}
	if _, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("second listener was granted")
	}
	if _, err := ssh.Dial("tcp", w.addr, w.clientConfig()); err == nil {
		t.Error("second connection was let in")
	}
	if got := w.total("agent_dropped_total", "what", "ssh_connections"); got != 2 {
		t.Errorf("dropped connections and sessions = %v, want 2", got)
	}
	if got := w.total("agent_dropped_total", "what", "forwards"); got != 2 {
		t.Errorf("dropped forwards and listeners = %v, want 2", got)
	}
	// What is given back can be taken again.
	first.Close()
	forward.Close()
	eventually(t, "a free session", func() bool {
		s, err := c.NewSession()
		if err == nil {
			s.Close()
		}
		return err == nil
	})
	eventually(t, "a free forward", func() bool {
		f, err := c.Dial("tcp", target)
		if err == nil {
			f.Close()
		}
		return err == nil
	})
}

func TestServer_AgentForward(t *testing.T) {
	w := newWorld(t)
	for _, tool := range []string{"ssh-agent", "ssh-add"} {
		need(t, tool)
	}
	socket := filepath.Join(t.TempDir(), "agent")
	ctx, cancel := context.WithCancel(context.Background())
	agent := exec.CommandContext(ctx, "ssh-agent", "-D", "-a", socket)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = agent.Wait() })
	dialAsSoon(t, "unix", socket).Close()
	env := []string{"SSH_AUTH_SOCK=" + socket}
	if got := w.tool(nil, env, "ssh-add", "-q", w.key); got.code != 0 {
		t.Fatalf("ssh-add: %+v", got)
	}
	args := append(w.sshOptions(), "-A", "me@127.0.0.1", `ssh-add -l; ls -ld "$(dirname $SSH_AUTH_SOCK)" | cut -c1-10; echo $SSH_AUTH_SOCK`)
	got := w.tool(nil, env, "ssh", args...)
	lines := strings.Split(got.stdout, "\n")
	if got.code != 0 || len(lines) < 3 || !strings.Contains(lines[0], ssh.FingerprintSHA256(w.signer.PublicKey())) || lines[1] != "drwx------" {
		t.Fatalf("result = %+v", got)
	}
	if _, err := os.Stat(filepath.Dir(lines[2])); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", lines[2], err)
	}
}

func TestServer_Multiplexing(t *testing.T) {
	w := newWorld(t)
	control := filepath.Join(t.TempDir(), "c")
	w.background(nil, "-M", "-S", control)
	for i := range 5 {
		got := w.ssh([]string{"-S", control}, fmt.Sprintf("echo %d; exit %d", i, i))
		if got.stdout != fmt.Sprintln(i) || got.code != i {
			t.Errorf("session %d: %+v", i, got)
		}
	}
	if got := w.total("agent_sessions_opened_total", "via", "ssh"); got != 6 {
		t.Errorf("opened %v sessions, want 6", got)
	}
}

func TestServer_ForwardDataLargeBothWays(t *testing.T) {
	w := newWorld(t)
	target := echo(t, "tcp", "127.0.0.1:0").Addr().String()
	c, err := w.dial().Dial("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("abcdefgh", 1<<19) // 4 MiB
	if got, err := ask(chanConn{c}, text); err != nil || got != strings.ToUpper(text) {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(text), err)
	}
}

// chanConn is a forwarded connection of the Go client, which knows no deadlines.
type chanConn struct{ net.Conn }

func (chanConn) SetDeadline(time.Time) error { return nil }
func (c chanConn) CloseWrite() error         { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

func TestServer_CloseEndsForwards(t *testing.T) {
	w := newWorld(t, func(o *Options, _ *agentexec.Options) {
		o.Processes = fakeProcesses{stats.ForwardFacts{CommandLine: "remote-dev-server"}}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := w.dial().Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := w.server.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("read = %v", err)
	}
	if _, d := w.reports.all(); len(d) != 1 || w.ended(stats.EndShutdown) != 1 {
		t.Errorf("disconnected = %+v, ended by shutdown = %v", d, w.ended(stats.EndShutdown))
	}
}
