package reportclient

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

// TestManifest_Damaged: one clear error, no call of OnManifest, another attempt.
func TestManifest_Damaged(t *testing.T) {
	for _, tc := range []struct {
		want   string
		damage func(*agentpb.Manifest)
	}{
		{"agent_id has 0 bytes, not 16", func(m *agentpb.Manifest) { m.AgentId = nil }},
		{"agent_id is all zero", func(m *agentpb.Manifest) { m.AgentId = make([]byte, 16) }},
		{"workspace_id has 17 bytes, not 16", func(m *agentpb.Manifest) { m.WorkspaceId = make([]byte, 17) }},
		{"scripts[0].id has 1 bytes, not 16", func(m *agentpb.Manifest) {
			wiretest.AddScript(m, "true", func(s *agentpb.WorkspaceAgentScript) { s.Id = []byte{1} })
		}},
		{"scripts[0].log_source_id has 0 bytes, not 16", func(m *agentpb.Manifest) {
			wiretest.AddScript(m, "true", func(s *agentpb.WorkspaceAgentScript) { s.LogSourceId = nil })
		}},
		{"scripts[0].id has 0 bytes, not 16", func(m *agentpb.Manifest) { m.Scripts = []*agentpb.WorkspaceAgentScript{nil} }},
		{"apps[1].id has 2 bytes, not 16", func(m *agentpb.Manifest) {
			m.Apps = []*agentpb.WorkspaceApp{{Id: make([]byte, 16)}, {Id: []byte("ab")}}
		}},
		{"agent_id has 0 bytes, not 16", func(m *agentpb.Manifest) { proto.Reset(m) }},
	} {
		m := wiretest.NewManifest()
		tc.damage(m)
		err := checkManifest(m)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want %q", err, tc.want)
		}
	}
	if err := checkManifest(wiretest.NewManifest()); err != nil {
		t.Errorf("a good one: %v", err)
	}
	damaged := wiretest.NewManifest()
	damaged.WorkspaceId = nil
	s := wiretest.Start(t, wiretest.Options{Manifest: damaged})
	c, stop := connect(t, s, func(o *Options) {
		o.OnManifest = func(context.Context, *agentpb.Manifest) (string, error) {
			t.Error("a damaged manifest was taken in")
			return "", nil
		}
	})
	s.WaitCalls(t, "GetManifest", 3)
	stop()
	if h := c.Health(); h.Sessions != 0 || h.DialErrors < 2 {
		t.Errorf("health %+v", h)
	}
}

// TestSession_MessagesThatAreTooLarge end the session, not the agent.
func TestSession_MessagesThatAreTooLarge(t *testing.T) {
	large := wiretest.NewManifest()
	large.Directory = strings.Repeat("x", 5<<20)
	s := wiretest.Start(t, wiretest.Options{Manifest: large})
	var log logBuffer
	_, stop := connect(t, s, func(o *Options) { o.Log = log.logger() })
	s.WaitCalls(t, "GetManifest", 2)
	wiretest.On(s.Service, func(context.Context, *agentpb.GetManifestRequest) (*agentpb.Manifest, error) {
		return wiretest.NewManifest(), nil
	})
	s.WaitCalls(t, "UpdateStartup", 1)
	stop()
	if !strings.Contains(log.String(), "get manifest: ") {
		t.Errorf("log:\n%s", log.String())
	}
}

// TestRun_DeafServer: a server that takes calls and never answers does not keep
// Run from ending, and neither does one that is gone without a word.
func TestRun_DeafServer(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{})
	deaf := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	wiretest.On(s.Service, func(ctx context.Context, _ *agentpb.UpdateStatsRequest) (*agentpb.UpdateStatsResponse, error) {
		return nil, deaf(ctx)
	})
	wiretest.On(s.Service, func(ctx context.Context, _ *agentpb.UpdateLifecycleRequest) (*agentpb.Lifecycle, error) {
		return nil, deaf(ctx)
	})
	c, stop := connect(t, s, nil)
	c.SetLifecycle(agentpb.Lifecycle_STARTING)
	s.WaitCalls(t, "UpdateStats", 1)
	s.WaitCalls(t, "UpdateLifecycle", 1)
	began := time.Now()
	stop()
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("Run ended after %s", d)
	}
}

// TestSession_ServerRestarts over a real connection: cut in mid-stream, refused
// for a while, and back. Nothing is lost or doubled.
func TestSession_ServerRestarts(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{})
	s.Ledger.SetInterval(time.Second)
	c, _ := connect(t, s, nil)
	for round := range 3 {
		s.Wait(t, "a hello in another session", func() bool { return len(hellos(s.Service)) > round })
		scriptRan(c.o.Tally)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := c.FlushReport(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if got := s.Ledger.Totals()["agent_scripts_executed_total\xffsuccess\xfftrue"]; got != float64(round+1) {
			t.Errorf("round %d: the server counts %v", round, got)
		}
		s.SetDown(true)
		failures := c.Health().DialErrors
		deadline := time.Now().Add(time.Minute)
		for c.Health().DialErrors == failures {
			if time.Now().After(deadline) {
				t.Fatal("the agent does not notice")
			}
			time.Sleep(time.Millisecond)
		}
		s.SetDown(false)
	}
}

func hellos(s *wiretest.Service) []*agentpb.UpdateStatsRequest {
	h, _ := reportsOf(s)
	return h
}
