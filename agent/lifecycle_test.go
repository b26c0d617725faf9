//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

func TestNew_NamesEveryMistake(t *testing.T) {
	_, err := New(Options{URL: &url.URL{Scheme: "ssh", Host: "x"}, SSHListener: listen(t)})
	for _, want := range []string{"is not an http or https URL", "no agent token", "SSH listener needs authorized keys"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	_, err = New(Options{
		URL: &url.URL{Scheme: "http", Host: "x"}, Token: func(context.Context) (string, error) { return "", nil }, WebConfigFile: "/nonexistent",
	})
	if err == nil || !strings.Contains(err.Error(), "web config file") {
		t.Errorf("error %v", err)
	}
}

// TestScripts_RelativeDirectories: what is below a relative directory is found
// by children too, which start in the home.
func TestScripts_RelativeDirectories(t *testing.T) {
	t.Chdir(t.TempDir())
	m := wiretest.NewManifest()
	wiretest.AddScript(m, `echo "#!/bin/sh" >"$CODER_SCRIPT_BIN_DIR/mine" && chmod +x "$CODER_SCRIPT_BIN_DIR/mine" && mine && touch "$CODER_SCRIPT_DATA_DIR/x"`,
		func(s *agentpb.WorkspaceAgentScript) { s.RunOnStart = true })
	s := wiretest.Start(t, wiretest.Options{Manifest: m})
	a := run(t, s, func(o *Options) { o.StateDir, o.LogDir, o.ScriptDataDir = "state", ".", "data" })
	s.WaitCalls(t, "UpdateLifecycle", 2)
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	if got := states(s); len(got) < 2 || got[1] != agentpb.Lifecycle_READY {
		t.Errorf("states %v; log:\n%s", got, a.log)
	}
	for _, pattern := range []string{"data/coder-script-data/*/x", "state/*", "coder-script-*.log"} {
		if found, err := filepath.Glob(pattern); err != nil || len(found) == 0 {
			t.Errorf("%s: %v, %v", pattern, found, err)
		}
	}
}

func TestLifecycle_FinalStateOfTheStart(t *testing.T) {
	onStart := func(s *agentpb.WorkspaceAgentScript) { s.RunOnStart = true }
	for _, tc := range []struct {
		name   string
		script string
		change func(*agentpb.WorkspaceAgentScript)
		want   agentpb.Lifecycle_State
	}{
		{"ready", "true", onStart, agentpb.Lifecycle_READY},
		{"error", "exit 3", onStart, agentpb.Lifecycle_START_ERROR},
		{"timeout", "sleep 60", func(s *agentpb.WorkspaceAgentScript) {
			s.RunOnStart, s.Timeout = true, durationpb.New(time.Second) // less may be over before the start
		}, agentpb.Lifecycle_START_TIMEOUT},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := wiretest.NewManifest()
			wiretest.AddScript(m, "true", onStart)
			wiretest.AddScript(m, tc.script, tc.change)
			s := wiretest.Start(t, wiretest.Options{Manifest: m})
			a := run(t, s, nil)
			s.WaitCalls(t, "UpdateLifecycle", 2)
			if err := a.stop(); err != nil {
				t.Error(err)
			}
			want := []agentpb.Lifecycle_State{agentpb.Lifecycle_STARTING, tc.want, agentpb.Lifecycle_SHUTTING_DOWN, agentpb.Lifecycle_OFF}
			if diff := cmp.Diff(want, states(s)); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
			if n := len(s.Calls("ScriptCompleted")); n != 2 {
				t.Errorf("%d script timings", n)
			}
		})
	}
}

func TestLifecycle_FinalStateOfTheStop(t *testing.T) {
	for _, tc := range []struct {
		script  string
		timeout time.Duration
		want    agentpb.Lifecycle_State
	}{
		{"true", 0, agentpb.Lifecycle_OFF},
		{"exit 1", 0, agentpb.Lifecycle_SHUTDOWN_ERROR},
		{"sleep 60", time.Second, agentpb.Lifecycle_SHUTDOWN_TIMEOUT},
	} {
		t.Run(tc.want.String(), func(t *testing.T) {
			m := wiretest.NewManifest()
			wiretest.AddScript(m, tc.script, func(s *agentpb.WorkspaceAgentScript) {
				s.RunOnStop, s.Timeout = true, durationpb.New(tc.timeout)
			})
			s := wiretest.Start(t, wiretest.Options{Manifest: m})
			a := run(t, s, nil)
			s.WaitCalls(t, "UpdateLifecycle", 2)
			_ = a.stop()
			got := states(s)
			if got[len(got)-1] != tc.want {
				t.Errorf("states %v", got)
			}
		})
	}
}

// TestScripts_RunOnceOverReconnects: a session that comes back brings the
// manifest again and starts nothing again.
func TestScripts_RunOnceOverReconnects(t *testing.T) {
	m := wiretest.NewManifest()
	file := filepath.Join(t.TempDir(), "runs")
	wiretest.AddScript(m, "echo run >> "+file, func(s *agentpb.WorkspaceAgentScript) { s.RunOnStart = true })
	s := wiretest.Start(t, wiretest.Options{Manifest: m})
	run(t, s, nil)
	s.WaitCalls(t, "UpdateLifecycle", 2)
	s.WaitCalls(t, "UpdateStartup", 1)
	for i := 2; i < 5; i++ {
		s.Cut()
		s.WaitCalls(t, "UpdateStartup", i)
	}
	text, err := os.ReadFile(file)
	if err != nil || string(text) != "run\n" {
		t.Errorf("%q, %v", text, err)
	}
	// The answer to the last may have been cut: then it came again.
	if diff := cmp.Diff([]agentpb.Lifecycle_State{agentpb.Lifecycle_STARTING, agentpb.Lifecycle_READY}, slices.Compact(states(s))); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

// TestStop_Order: sessions end, then stop scripts run, then the report that has
// them, then the final state; each reaches the server.
func TestStop_Order(t *testing.T) {
	m := wiretest.NewManifest()
	script := wiretest.AddScript(m, "echo bye", func(s *agentpb.WorkspaceAgentScript) { s.RunOnStop = true })
	s := wiretest.Start(t, wiretest.Options{Manifest: m})
	var dial func() (*ssh.Client, error)
	a := run(t, s, func(o *Options) { dial, _ = withSSH(t, o) })
	s.WaitCalls(t, "UpdateLifecycle", 2)
	session, err := mustDial(t, dial).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("sleep 600"); err != nil {
		t.Fatal(err)
	}
	s.WaitCalls(t, "ReportConnection", 1)
	began := time.Now()
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("the stop took %s", d)
	}
	at := make(map[string]time.Time)
	for _, call := range s.Calls() {
		switch r := call.Request.(type) {
		case *agentpb.UpdateLifecycleRequest:
			at[r.GetLifecycle().GetState().String()] = r.GetLifecycle().GetChangedAt().AsTime()
		case *agentpb.ReportConnectionRequest:
			at[r.GetConnection().GetAction().String()] = r.GetConnection().GetTimestamp().AsTime()
		case *agentpb.WorkspaceAgentScriptCompletedRequest:
			at["script start"], at["script end"] = r.GetTiming().GetStart().AsTime(), r.GetTiming().GetEnd().AsTime()
			if r.GetTiming().GetStage() != agentpb.Timing_STOP {
				t.Errorf("timing %v", r.GetTiming())
			}
		case *agentpb.BatchCreateLogsRequest:
			if string(r.GetLogSourceId()) == string(script.GetLogSourceId()) {
				at["log"] = call.At
			}
		case *agentpb.UpdateStatsRequest:
			at["report"] = call.At
		}
	}
	order := []string{"SHUTTING_DOWN", "DISCONNECT", "script start", "script end", "report", "OFF"}
	for i, name := range order {
		if at[name].IsZero() {
			t.Errorf("no %s", name)
		} else if i > 0 && at[name].Before(at[order[i-1]]) {
			t.Errorf("%s comes before %s", name, order[i-1])
		}
	}
	if at["log"].IsZero() {
		t.Error("the stop script's output did not arrive")
	}
	totals := s.Ledger.Totals()
	if totals["agent_scripts_executed_total\xffsuccess\xfftrue"] != 1 || totals["agent_sessions_ended_total\xfffamily\xffssh\xffreason\xffshutdown"] != 1 {
		t.Errorf("the last report does not have it all: %v", totals)
	}
	for _, w := range s.Ledger.Windows() {
		if w.GetGauges().GetConnectionCount() < 0 || len(w.GetGauges().GetSessions()) > 0 && len(w.GetTotals()) > 0 && len(s.Ledger.Windows()) == 1 {
			t.Errorf("sessions are open in the last report: %v", w.GetGauges())
		}
	}
}

// TestStop_DuringTheStart: a start script that runs is ended; the states only go
// forward.
func TestStop_DuringTheStart(t *testing.T) {
	m := wiretest.NewManifest()
	wiretest.AddScript(m, "sleep 600", func(s *agentpb.WorkspaceAgentScript) { s.RunOnStart = true })
	s := wiretest.Start(t, wiretest.Options{Manifest: m})
	a := run(t, s, nil)
	s.WaitCalls(t, "UpdateLifecycle", 1)
	began := time.Now()
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 15*time.Second {
		t.Errorf("the stop took %s", d)
	}
	want := []agentpb.Lifecycle_State{agentpb.Lifecycle_STARTING, agentpb.Lifecycle_SHUTTING_DOWN, agentpb.Lifecycle_OFF}
	if diff := cmp.Diff(want, states(s)); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

// TestStop_DeadServer: a server that is gone, or answers nothing any more, costs
// the stop no more than its limits.
func TestStop_DeadServer(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		t.Run(fmt.Sprintf("deaf %v", deaf), func(t *testing.T) {
			t.Parallel()
			s := wiretest.Start(t, wiretest.Options{})
			a := run(t, s, nil)
			s.WaitCalls(t, "UpdateLifecycle", 2)
			if deaf {
				wiretest.On(s.Service, func(ctx context.Context, _ *agentpb.UpdateStatsRequest) (*agentpb.UpdateStatsResponse, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				})
				wiretest.On(s.Service, func(ctx context.Context, _ *agentpb.UpdateLifecycleRequest) (*agentpb.Lifecycle, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				})
			} else {
				s.SetDown(true)
			}
			began := time.Now()
			if err := a.stop(); err != nil {
				t.Error(err)
			}
			if d := time.Since(began); d > lastReport+lastWords+4*time.Second {
				t.Errorf("the stop took %s", d)
			}
		})
	}
	t.Run("never there", func(t *testing.T) {
		s := wiretest.Start(t, wiretest.Options{})
		s.SetDown(true)
		a := run(t, s, nil)
		eventually(t, "an attempt", func() bool { return a.client.Health().DialErrors > 0 })
		stopsAtOnce(t, a)
	})
	t.Run("a token that never comes", func(t *testing.T) {
		s := wiretest.Start(t, wiretest.Options{})
		a := run(t, s, func(o *Options) {
			o.StateDir = t.TempDir()
			o.Token = func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
		})
		stopsAtOnce(t, a)
	})
}

// stopsAtOnce: there is nothing to say, so nobody is waited for.
func stopsAtOnce(t *testing.T, a *running) {
	t.Helper()
	began := time.Now()
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > lastWords-time.Second {
		t.Errorf("the stop took %s", d)
	}
	if log := a.log.String(); strings.Contains(log, "last report") || strings.Contains(log, "last words") {
		t.Errorf("the stop waited for a server:\n%s", log)
	}
}

// TestRun_NoGoroutineBeforeNorAfter: New starts nothing, and nothing outlives Run.
func TestRun_NoGoroutineBeforeNorAfter(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{})
	before := goleak.IgnoreCurrent()
	a := newAgent(t, s, func(o *Options) {
		withSSH(t, o)
		o.PTYListener, o.MetricsListener = listenUnix(t), listen(t)
	})
	if err := goleak.Find(before); err != nil {
		t.Errorf("before Run: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	s.WaitCalls(t, "UpdateLifecycle", 2)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for name, l := range map[string]interface{ Close() error }{"SSH": a.o.SSHListener, "PTY": a.o.PTYListener, "metrics": a.o.MetricsListener} {
		if l.Close() == nil {
			t.Errorf("the %s listener is open after Run", name)
		}
	}
}

func TestRun_Reinit(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{Reinit: func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "event: data\ndata: {\"reason\":\"prebuild_claimed\"}\n\n")
	}})
	a := newAgent(t, s, nil)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(t.Context()) }()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrReinit) || !strings.Contains(err.Error(), "prebuild_claimed") {
			t.Errorf("Run = %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Run goes on")
	}
}
