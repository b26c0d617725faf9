package agentssh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

func TestServer_ExecExitStatus(t *testing.T) {
	tests := []struct {
		name, command string
		want          result
		code          int
		reason        string
	}{
		{"success", "echo out; echo err >&2", result{"out\n", "err\n", 0}, 0, ""},
		{"failure", "exit 7", result{"", "", 7}, 7, "process exited with error status: 7"},
		{"killed by a signal", "kill -9 $$", result{"", "", 255}, 255, "process exited with error status: -1"},
		{"unknown command", "no-such-command 2>/dev/null", result{"", "", 127}, 127, "process exited with error status: 127"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if got := w.ssh(nil, tt.command); got != tt.want {
				t.Errorf("result = %+v, want %+v", got, tt.want)
			}
			connected, disconnected := w.reports.all()
			if len(connected) != 1 || len(disconnected) != 1 {
				t.Fatalf("reports = %+v, %+v", connected, disconnected)
			}
			if connected[0].Kind.App != "ssh" || connected[0].IP != "127.0.0.1" {
				t.Errorf("connected = %+v", connected[0])
			}
			if got := disconnected[0]; got != (disconnect{connected[0].ID, tt.code, tt.reason}) {
				t.Errorf("disconnected = %+v", got)
			}
			if w.ended(stats.EndExited) != 1 || w.open() != 0 {
				t.Errorf("exited = %v, open = %v", w.ended(stats.EndExited), w.open())
			}
		})
	}
}

func TestServer_StartFailureIs229(t *testing.T) {
	w := newWorld(t, func(_ *Options, e *agentexec.Options) { e.Shell = "/no/such/shell" })
	got := w.ssh(nil, "true")
	if got.code != 229 || !strings.Contains(got.stderr, "/no/such/shell") {
		t.Errorf("result = %+v", got)
	}
	if w.ended(stats.EndFailed) != 1 || w.total("agent_sessions_errors_total", "error_type", "start_command") != 1 {
		t.Error("the failure was not counted")
	}
}

func TestServer_StdinEndReachesTheProcess(t *testing.T) {
	w := newWorld(t)
	args := append(w.sshOptions(), "me@127.0.0.1", "cat; echo end")
	got := w.tool(strings.NewReader("hello\n"), nil, "ssh", args...)
	if got != (result{"hello\nend\n", "", 0}) {
		t.Errorf("result = %+v", got)
	}
}

func TestServer_LargeCopyIsExact(t *testing.T) {
	w := newWorld(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB
	args := append(w.sshOptions(), "me@127.0.0.1", "cat")
	got := w.tool(bytes.NewReader(want), nil, "ssh", args...)
	if got.code != 0 || got.stdout != string(want) {
		t.Errorf("exit status %d, %d of %d bytes", got.code, len(got.stdout), len(want))
	}
}

func TestServer_BackgroundChildDoesNotHoldTheSession(t *testing.T) {
	w := newWorld(t)
	begin := time.Now()
	got := w.ssh(nil, "echo first; sleep 600 & echo $! > $HOME/pid; echo last")
	if got != (result{"first\nlast\n", "", 0}) {
		t.Errorf("result = %+v", got)
	}
	if took := time.Since(begin); took > drainIdle+deadline/2 {
		t.Errorf("took %v", took)
	}
	w.ssh(nil, "kill $(cat $HOME/pid)")
}

func TestServer_OutputOfSlowReaderIsNotCut(t *testing.T) {
	w := newWorld(t)
	s := w.session(w.dial())
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// More than the channel's window, so that the process ends only after most
	// was read, with its pipe full.
	const size = 4 << 20
	if err := s.Start("head -c " + strconv.Itoa(size) + " /dev/zero; sleep 600 & echo $! > $HOME/pid; exit 3"); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, out)
	if err != nil || n != size {
		t.Errorf("read %d bytes, %v", n, err)
	}
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 3 {
		t.Errorf("wait = %v", err)
	}
	w.ssh(nil, "kill $(cat $HOME/pid)")
}

func TestServer_Signals(t *testing.T) {
	w := newWorld(t)
	s := w.session(w.dial())
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(`trap 'echo caught; exit 4' USR1; echo ready; while :; do sleep 0.05; done`); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal(ssh.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out)
	if err != nil || string(rest) != "caught\n" {
		t.Errorf("output = %q, %v", rest, err)
	}
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 4 {
		t.Errorf("wait = %v", err)
	}
}

func TestServer_SignalsBeforeTheStartAreBufferedAndBounded(t *testing.T) {
	w := newWorld(t)
	s := w.session(w.dial())
	for range maxSignals + 5 {
		if err := s.Signal(ssh.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	var exit *ssh.ExitError
	if err := s.Run("exec sleep 600"); !errors.As(err, &exit) || exit.ExitStatus() != 255 {
		t.Errorf("run = %v, want the buffered signal to end it", err)
	}
	if got := w.total("agent_dropped_total", "what", "signals"); got != 5 {
		t.Errorf("dropped %v signals, want 5", got)
	}
}

func TestServer_EnvironmentPrecedence(t *testing.T) {
	w := newWorld(t)
	w.builder.Update(agentexec.Settings{
		WorkspaceName: "ws", Env: map[string]string{"MANIFEST": "m-$FROM_AGENT"},
		Secrets: map[string]string{"SECRET": "$raw"},
	})
	got := w.ssh([]string{"-o", "SetEnv=FROM_AGENT=client MANIFEST=client CODER=client MINE=mine TS_X=1 CODER_CONTAINER=c"},
		`echo "$FROM_AGENT|$MANIFEST|$CODER|$MINE|$SECRET|$CODER_WORKSPACE_NAME|$TS_X$CODER_CONTAINER$CODER_SSH_SESSION_TYPE|$SSH_CLIENT"; pwd`)
	want := "agent|m-agent|true|mine|$raw|ws||0.0.0.0 0 0\n" + w.home + "\n"
	if got != (result{want, "", 0}) {
		t.Errorf("result = %+v, want %q", got, want)
	}
}

func TestServer_SecondJobIsRefused(t *testing.T) {
	w := newWorld(t)
	s := w.session(w.dial())
	if err := s.Start("sleep 600"); err != nil {
		t.Fatal(err)
	}
	for name, payload := range map[string]any{
		"exec": textPayload{"true"}, "shell": textPayload{}, "subsystem": textPayload{"sftp"},
		"pty-req": ptyPayload{Term: "x"}, "env": envPayload{"A", "1"}, "x11-req": x11Payload{},
		"auth-agent-req@openssh.com": textPayload{}, "break": struct{ N uint32 }{1}, "unheard-of@example": textPayload{},
		"window-change": windowPayload{1, 1, 1, 1},
	} {
		if ok, err := s.SendRequest(name, true, ssh.Marshal(payload)); ok || err != nil {
			t.Errorf("%s: granted %v, %v; want an answer that refuses", name, ok, err)
		}
	}
	if ok, err := s.SendRequest(keepaliveName, true, nil); !ok || err != nil {
		t.Errorf("keepalive: %v, %v", ok, err)
	}
}

func TestServer_OtherSubsystemIsRefused(t *testing.T) {
	w := newWorld(t)
	if err := w.session(w.dial()).RequestSubsystem("netconf"); err == nil {
		t.Error("granted")
	}
	if w.total("agent_sessions_opened_total") != 0 {
		t.Error("a refused subsystem was counted")
	}
}

func TestServer_UnknownChannelAndRequestsAreAnswered(t *testing.T) {
	w := newWorld(t)
	c := w.dial()
	_, _, err := c.OpenChannel("unheard-of@example", nil)
	var open *ssh.OpenChannelError
	if !errors.As(err, &open) || open.Reason != ssh.UnknownChannelType {
		t.Errorf("open = %v", err)
	}
	for name, want := range map[string]bool{keepaliveName: true, "unheard-of@example": false, "tcpip-forward": false} {
		ok, _, err := c.SendRequest(name, true, nil)
		if err != nil || ok != want {
			t.Errorf("%s = %v, %v, want %v", name, ok, err, want)
		}
	}
}

func TestServer_ProcessWithoutTerminalSurvivesItsClient(t *testing.T) {
	w := newWorld(t)
	c := w.dial()
	s := w.session(c)
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// Without it the client ends the input itself, and cat may end before the client
	// is gone.
	if _, err := s.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	// The survivor must not write to its broken pipe, or it would die of that.
	if err := s.Start("echo $$; cat; echo survived > $HOME/result"); err != nil {
		t.Fatal(err)
	}
	pid := make([]byte, 64)
	if _, err := out.Read(pid); err != nil {
		t.Fatal(err)
	}
	c.Close()
	eventually(t, "the end of the session", func() bool { return w.ended(stats.EndDisconnected) == 1 })
	eventually(t, "the process's own end", func() bool { return w.read("result") == "survived\n" })
	if d := w.ends(t, 1); d[0].Code != 1 || d[0].Reason != "" {
		t.Errorf("disconnected = %+v", d)
	}
}

func TestServer_CloseHangsUpProcessesAndSendsNoStatus(t *testing.T) {
	w := newWorld(t)
	s := w.session(w.dial())
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("trap 'echo hup > $HOME/result; kill $!; exit' HUP; sleep 600 & echo ready; wait"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := w.server.Close(ctx); err != nil {
		t.Fatal(err)
	}
	var missing *ssh.ExitMissingError
	if err := s.Wait(); !errors.As(err, &missing) {
		t.Errorf("wait = %v, want no exit status", err)
	}
	if got := w.read("result"); got != "hup\n" {
		t.Errorf("result = %q", got)
	}
	_, d := w.reports.all()
	if len(d) != 1 || d[0].Code != 255 || d[0].Reason != "process exited with error status: -1" || w.ended(stats.EndShutdown) != 1 {
		t.Errorf("disconnected = %+v, shutdown = %v", d, w.ended(stats.EndShutdown))
	}
}

func TestServer_CloseKillsWhatIgnoresTheHangup(t *testing.T) {
	w := newWorld(t)
	s := w.session(w.dial())
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("trap '' HUP; echo ready; while :; do sleep 0.05; done"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := w.server.Close(ctx); err == nil || !strings.Contains(err.Error(), "1 processes had to be killed") {
		t.Errorf("close = %v", err)
	}
}

func TestServer_PanicEndsOneSessionOnly(t *testing.T) {
	w := newWorld(t, func(o *Options, _ *agentexec.Options) {
		o.Banners = func() []Banner { panic("banner") }
	})
	c := w.dial()
	s := w.session(c)
	if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 229 {
		t.Errorf("wait = %v", err)
	}
	if err := w.session(c).Run("true"); err != nil {
		t.Errorf("the next session: %v", err)
	}
	if w.ended(stats.EndFailed) != 1 || w.ended(stats.EndExited) != 1 {
		t.Error("the ends were not counted")
	}
}
