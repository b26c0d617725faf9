//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/agent"
	"github.com/worktally/worktally/internal/exitcode"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

func get(t *testing.T, address, path string) string {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestRun_TakenMetricsPort: the second agent says so, takes a free port, and the
// files tell which.
func TestRun_TakenMetricsPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := wiretest.Start(t, wiretest.Options{})
	w := newWorld(t, s)
	wait := w.start("--prometheus-address=" + taken.Addr().String())
	s.WaitCalls(t, "UpdateLifecycle", 2)
	address := strings.TrimSpace(readFile(t, filepath.Join(w.stateDir, addressFile)))
	if address == taken.Addr().String() || !strings.Contains(get(t, address, "/metrics"), "agent_connected 1") {
		t.Errorf("no page at %q", address)
	}
	var targets []struct {
		Targets []string `json:"targets"`
	}
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(w.stateDir, fileSDFile))), &targets); err != nil || len(targets) != 1 || targets[0].Targets[0] != address {
		t.Errorf("file_sd targets %v, %v", targets, err)
	}
	if startup := wiretest.Requests[*agentpb.UpdateStartupRequest](s.Service)[0]; startup.GetStartup().GetWorktally().GetMetricsAddress() != address {
		t.Errorf("the server is told %v", startup)
	}
	w.stop(wait)
	if n := strings.Count(w.stderr.String(), "THE METRICS PAGE IS ON ANOTHER PORT"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, w.stderr.String())
	}
}

func TestListenMetrics_NoPageIsNoReasonToStop(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{})
	for address, want := range map[string]string{"": "", "nonsense": "is no address", "192.0.2.1:1": "no metrics page"} {
		w := newWorld(t, s)
		calls := len(s.Calls("UpdateLifecycle"))
		wait := w.start("--prometheus-address=" + address)
		s.WaitCalls(t, "UpdateLifecycle", calls+2)
		w.stop(wait)
		if !strings.Contains(w.stderr.String(), want) || readFile(t, filepath.Join(w.stateDir, addressFile)) != "" {
			t.Errorf("%q:\n%s", address, w.stderr.String())
		}
	}
}

// TestRun_StandsInForTheOtherAgent: a leading "agent" and the flags that have no
// effect here are accepted, the latter with one warning.
func TestRun_StandsInForTheOtherAgent(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{})
	w := newWorld(t, s)
	w.env["CODER_AGENT_DEVCONTAINERS_ENABLE"] = "true"
	wait := w.start("agent", "--devcontainers-enable=true", "--devcontainers-project-discovery-enable=true", "--tailnet-listen-port=0", "--no-reap")
	s.WaitCalls(t, "UpdateLifecycle", 2)
	w.stop(wait)
	if n := strings.Count(w.stderr.String(), "dev containers are not supported"); n != 1 {
		t.Errorf("%d warnings about dev containers:\n%s", n, w.stderr.String())
	}
	quiet := newWorld(t, s)
	calls := len(s.Calls("UpdateLifecycle"))
	wait = quiet.start("--devcontainers-enable=false")
	s.WaitCalls(t, "UpdateLifecycle", calls+2)
	quiet.stop(wait)
	if strings.Contains(quiet.stderr.String(), "not supported") {
		t.Errorf("a warning about nothing:\n%s", quiet.stderr.String())
	}
}

func TestRun_VersionAndHelpers(t *testing.T) {
	w := newWorld(t, nil)
	if code := run(t.Context(), w.process("version")); code != exitcode.OK || !strings.HasPrefix(w.stdout.String(), "worktally-agent v") {
		t.Errorf("version: %d %q", code, w.stdout.String())
	}
	for _, args := range [][]string{{"gitssh", "--", "git@host"}, {"external-auth", "access-token", "github"}, {"agent-exec"}} {
		w := newWorld(t, nil)
		if code := run(t.Context(), w.process(args...)); code == exitcode.OK || w.stderr.String() == "" {
			t.Errorf("%q without what it needs: %d %q", args, code, w.stderr.String())
		}
	}
	ask := newWorld(t, nil)
	ask.env["GIT_PREFIX"] = ""
	if code := run(t.Context(), ask.process("Username for 'https://git.example.com': ")); code == exitcode.OK || strings.Contains(ask.stderr.String(), "Run \"worktally-agent --help\"") {
		t.Errorf("askpass: %d %q", code, ask.stderr.String())
	}
}

// TestRun_LogsAndTheToken: every sink has the log in its form, and the token is
// in none of them, nor in a script's arguments.
func TestRun_LogsAndTheToken(t *testing.T) {
	m := wiretest.NewManifest()
	dir := t.TempDir()
	wiretest.AddScript(m, "cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' ' > "+filepath.Join(dir, "arguments"), func(s *agentpb.WorkspaceAgentScript) { s.RunOnStart = true })
	s := wiretest.Start(t, wiretest.Options{Manifest: m})
	w := newWorld(t, s)
	w.env["CODER_AGENT_LOGGING_JSON"], w.env["CODER_AGENT_LOGGING_STACKDRIVER"] = filepath.Join(dir, "json"), filepath.Join(dir, "stackdriver")
	wait := w.start("--log-human=/dev/stdout", "--debug-address=127.0.0.1:0", "--pprof-address=127.0.0.1:0")
	s.WaitCalls(t, "UpdateLifecycle", 2)
	s.Cut()
	s.WaitCalls(t, "UpdateStartup", 2)
	pages := make(map[string]string)
	for line := range strings.Lines(readFile(t, filepath.Join(dir, "json"))) {
		var entry struct{ Msg, Page, Address string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if entry.Page != "" {
			pages[entry.Page] = entry.Address
		}
	}
	if !strings.Contains(get(t, pages["debug"], "/debug/logs"), "session with the server established") || !strings.Contains(get(t, pages["pprof"], "/debug/pprof/"), "goroutine") {
		t.Errorf("pages %v", pages)
	}
	w.stop(wait)
	severities := 0
	for line := range strings.Lines(readFile(t, filepath.Join(dir, "stackdriver"))) {
		var entry struct{ Severity, Message, Level, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Severity == "" || entry.Message == "" || entry.Level+entry.Msg != "" {
			t.Errorf("%q: %v", line, err)
		}
		severities++
	}
	if severities == 0 {
		t.Error("nothing for Stackdriver")
	}
	texts := map[string]string{"stdout": w.stdout.String(), "stderr": w.stderr.String()}
	for _, path := range []string{filepath.Join(w.logDir, agent.LogFile), filepath.Join(dir, "json"), filepath.Join(dir, "stackdriver"), filepath.Join(dir, "arguments")} {
		texts[path] = readFile(t, path)
	}
	for name, text := range texts {
		if strings.Contains(text, wiretest.Token) {
			t.Errorf("the token is in %s", name)
		}
		if want := "session with the server established"; strings.HasSuffix(name, "arguments") {
			if text == "" {
				t.Error("no arguments were seen")
			}
		} else if strings.Contains(text, want) == (name == "stderr") {
			t.Errorf("%s:\n%s", name, text)
		}
	}
	if info, err := os.Stat(filepath.Join(w.logDir, agent.LogFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("log file: %v, %v", info, err)
	}
}

// TestRun_LogRotation: the log that has grown is renamed away.
func TestRun_LogRotation(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{})
	w := newWorld(t, s)
	if err := os.WriteFile(filepath.Join(w.logDir, agent.LogFile), []byte(strings.Repeat("x", logLimit)), 0o600); err != nil {
		t.Fatal(err)
	}
	wait := w.start()
	s.WaitCalls(t, "UpdateLifecycle", 2)
	w.stop(wait)
	if old := readFile(t, filepath.Join(w.logDir, agent.LogFile+".1")); len(old) != logLimit {
		t.Errorf("the old log has %d bytes", len(old))
	}
	if fresh := readFile(t, filepath.Join(w.logDir, agent.LogFile)); !strings.Contains(fresh, "stopping") || strings.Contains(fresh, "xxx") {
		t.Errorf("the new log:\n%.200s", fresh)
	}
}

// TestRun_UnwritableLogDir: the agent's work matters more than its log.
func TestRun_UnwritableLogDir(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{})
	w := newWorld(t, s)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.env["CODER_AGENT_LOG_DIR"] = filepath.Join(file, "dir")
	wait := w.start()
	s.WaitCalls(t, "UpdateLifecycle", 2)
	w.stop(wait)
	if n := strings.Count(w.stderr.String(), "no log file"); n != 1 {
		t.Errorf("stderr:\n%s", w.stderr.String())
	}
}

// TestProgram_SecondSignalEndsAtOnce: the first waits for a stop script, the
// second does not. The script that is left alone ends with its directory.
func TestProgram_SecondSignalEndsAtOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	m := wiretest.NewManifest()
	wiretest.AddScript(m, "touch "+dir+"/stopping; while [ -e "+dir+"/stopping ]; do sleep 0.05; done", func(s *agentpb.WorkspaceAgentScript) {
		s.RunOnStop, s.Timeout = true, durationpb.New(time.Minute)
	})
	s := wiretest.Start(t, wiretest.Options{Manifest: m})
	w := newWorld(t, s)
	cmd := w.program(ctx, nil)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.WaitCalls(t, "UpdateLifecycle", 2)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stop script", func() bool { _, err := os.Stat(dir + "/stopping"); return err == nil })
	began := time.Now()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its exit code is what counts
	if code := cmd.ProcessState.ExitCode(); code != exitcode.Failed || time.Since(began) > 30*time.Second {
		t.Errorf("code %d after %s", code, time.Since(began))
	}
	if !strings.Contains(w.stderr.String(), "stopped at once by a second signal") {
		t.Errorf("stderr:\n%s", w.stderr.String())
	}
}

// TestRun_Reinit: another agent in the same process, the scripts run again.
func TestRun_Reinit(t *testing.T) {
	m := wiretest.NewManifest()
	file := filepath.Join(t.TempDir(), "runs")
	wiretest.AddScript(m, "echo run >> "+file, func(s *agentpb.WorkspaceAgentScript) { s.RunOnStart = true })
	var asked atomic.Int64
	ready := make(chan struct{})
	s := wiretest.Start(t, wiretest.Options{Manifest: m, Reinit: func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > 1 {
			w.WriteHeader(http.StatusConflict)
			return
		}
		select {
		case <-ready:
			fmt.Fprint(w, "event: data\ndata: {\"reason\":\"prebuild_claimed\"}\n\n")
		case <-r.Context().Done():
		}
	}})
	w := newWorld(t, s)
	wait := w.start("--pty-socket=" + filepath.Join(w.stateDir, "pty"))
	s.WaitCalls(t, "UpdateLifecycle", 2)
	close(ready)
	s.WaitCalls(t, "UpdateLifecycle", 6)
	w.stop(wait)
	if runs := readFile(t, file); runs != "run\nrun\n" {
		t.Errorf("scripts ran: %q", runs)
	}
	if n := strings.Count(w.stderr.String(), "the server asks the agent to start over"); n != 1 {
		t.Errorf("%d requests in the log:\n%s", n, w.stderr.String())
	}
}

func TestListenSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	path := filepath.Join(dir, "pty")
	l, err := listenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]os.FileMode{dir: 0o700, path: 0o600} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
	if _, err := listenSocket(path); err == nil || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("in use: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close() // as a killed agent leaves it
	again, err := listenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket(file); err == nil || !strings.Contains(err.Error(), "is no socket") || readFile(t, file) != "precious" {
		t.Errorf("a file: %v", err)
	}
}

// program starts the program as a process of its own.
func (w *world) program(ctx context.Context, wrapper []string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	line := append(append(wrapper, self), args...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Env = append(w.environ(), asProgram+"=1")
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &w.stdout, &w.stderr, 5*time.Second
	return cmd
}

// TestProgram_SignalsForReal: a dump that changes nothing, and an orderly end.
func TestProgram_SignalsForReal(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := wiretest.Start(t, wiretest.Options{})
	w := newWorld(t, s)
	cmd := w.program(ctx, nil)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.WaitCalls(t, "UpdateLifecycle", 2)
	for i, signal := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGTRAP} {
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a dump", func() bool {
			dumps, err := filepath.Glob(filepath.Join(w.env["HOME"], "coder-agent-*.dump"))
			return err == nil && len(dumps) == i+1 && strings.Count(w.stderr.String(), "dumped the stacks") == i+1
		})
	}
	dumps, _ := filepath.Glob(filepath.Join(w.env["HOME"], "coder-agent-*.dump")) // the pattern is good
	if text := readFile(t, dumps[0]); !strings.Contains(text, "goroutine 1 ") || strings.Contains(text, wiretest.Token) {
		t.Errorf("dump:\n%.500s", text)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v; stderr:\n%s", err, w.stderr.String())
	}
	last := wiretest.Requests[*agentpb.UpdateLifecycleRequest](s.Service)
	if last[len(last)-1].GetLifecycle().GetState() != agentpb.Lifecycle_OFF {
		t.Errorf("last state %v", last[len(last)-1])
	}
}
