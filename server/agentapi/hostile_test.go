package agentapi_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"
	"storj.io/drpc"
	"storj.io/drpc/drpcerr"

	"github.com/worktally/worktally/server/agentapi"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

// TestHostile_BadCalls makes every call wrong in every way that matters. Each
// answer is one clear error, and the session serves the next call.
func TestHostile_BadCalls(t *testing.T) {
	w := newWorld(t, setup{})
	p := w.dial()
	ctx := t.Context()
	web := w.agent.Spec.Apps[0].ID
	if w.agent.Spec.Apps[0].Healthcheck.URL == "" {
		t.Fatal("the first app has no health check")
	}
	never := &timestamppb.Timestamp{Seconds: math.MaxInt64}
	timing := func(f func(*agentpb.Timing)) error {
		now := timestamppb.Now()
		m := &agentpb.Timing{ScriptId: newID(), Start: now, End: now}
		f(m)
		_, err := p.ScriptCompleted(ctx, &agentpb.WorkspaceAgentScriptCompletedRequest{Timing: m})
		return err
	}
	connection := func(f func(*agentpb.Connection)) error {
		m := &agentpb.Connection{Id: newID(), Action: agentpb.Connection_CONNECT, Ip: "fd7a::1"}
		f(m)
		_, err := p.ReportConnection(ctx, &agentpb.ReportConnectionRequest{Connection: m})
		return err
	}
	health := func(id []byte, h agentpb.AppHealth) error {
		_, err := p.BatchUpdateAppHealths(ctx, &agentpb.BatchUpdateAppHealthRequest{Updates: []*agentpb.BatchUpdateAppHealthRequest_HealthUpdate{{Id: id, Health: h}}})
		return err
	}
	for _, c := range []struct {
		name string
		call func() error
		want string // in the error; "" wants none
	}{
		{"startup missing", func() error { _, err := p.UpdateStartup(ctx, &agentpb.UpdateStartupRequest{}); return err }, "UpdateStartup: the message is missing"},
		{"startup of odd bytes", func() error {
			_, err := p.UpdateStartup(ctx, &agentpb.UpdateStartupRequest{Startup: &agentpb.Startup{
				Version: "\x00" + strings.Repeat("v", 10000), ExpandedDirectory: "/\x00", Subsystems: []agentpb.Startup_Subsystem{77, -1},
			}})
			return err
		}, ""},
		{"lifecycle missing", func() error { _, err := p.UpdateLifecycle(ctx, &agentpb.UpdateLifecycleRequest{}); return err }, "UpdateLifecycle: the message is missing"},
		{"lifecycle unspecified", func() error { _, err := p.UpdateLifecycle(ctx, lifecycle(0)); return err }, "unknown lifecycle state 0"},
		{"lifecycle unknown", func() error { _, err := p.UpdateLifecycle(ctx, lifecycle(-7)); return err }, "unknown lifecycle state -7"},
		{"lifecycle at no time", func() error {
			_, err := p.UpdateLifecycle(ctx, &agentpb.UpdateLifecycleRequest{Lifecycle: &agentpb.Lifecycle{State: agentpb.Lifecycle_STARTING, ChangedAt: never}})
			return err
		}, ""},
		{"lifecycle in year 1", func() error {
			_, err := p.UpdateLifecycle(ctx, &agentpb.UpdateLifecycleRequest{Lifecycle: &agentpb.Lifecycle{
				State: agentpb.Lifecycle_READY, ChangedAt: &timestamppb.Timestamp{Seconds: -62135596800},
			}})
			return err
		}, ""},
		{"no app health", func() error {
			_, err := p.BatchUpdateAppHealths(ctx, &agentpb.BatchUpdateAppHealthRequest{})
			return err
		}, ""},
		{"health of a short id", func() error { return health([]byte("x"), agentpb.AppHealth_HEALTHY) }, "updates[0].id has 1 bytes, not 16"},
		{"health of a foreign app", func() error { return health(newID(), agentpb.AppHealth_HEALTHY) }, "not found"},
		{"unknown health", func() error { return health(web[:], 42) }, "invalid health 42"},
		{"unspecified health", func() error { return health(web[:], 0) }, "invalid health 0"},
		{"metadata without a result", func() error {
			_, err := p.BatchUpdateMetadata(ctx, &agentpb.BatchUpdateMetadataRequest{Metadata: []*agentpb.Metadata{{Key: "load"}}})
			return err
		}, ""},
		{"metadata of odd bytes", func() error {
			_, err := p.BatchUpdateMetadata(ctx, &agentpb.BatchUpdateMetadataRequest{Metadata: []*agentpb.Metadata{
				{Key: "load", Result: &agentpb.WorkspaceAgentMetadata_Result{Value: strings.Repeat("\x00é", 5000), Error: "\x00"}},
				{Key: "nobody", Result: &agentpb.WorkspaceAgentMetadata_Result{}},
			}})
			return err
		}, ""},
		{"too many metadata keys", func() error {
			r := &agentpb.BatchUpdateMetadataRequest{}
			for range 10 {
				r.Metadata = append(r.Metadata, &agentpb.Metadata{Key: strings.Repeat("k", 1000), Result: &agentpb.WorkspaceAgentMetadata_Result{}})
			}
			_, err := p.BatchUpdateMetadata(ctx, r)
			return err
		}, "6144 bytes"},
		{"logs without a source", func() error {
			_, err := p.BatchCreateLogs(ctx, &agentpb.BatchCreateLogsRequest{Logs: []*agentpb.Log{{Output: "x"}}})
			return err
		}, "log_source_id has 0 bytes, not 16"},
		{"logs of odd bytes", func() error {
			_, err := p.BatchCreateLogs(ctx, &agentpb.BatchCreateLogsRequest{LogSourceId: make([]byte, 16), Logs: []*agentpb.Log{{Output: "\x00", Level: 99}, {CreatedAt: never}}})
			return err
		}, ""},
		{"no logs", func() error { _, err := p.BatchCreateLogs(ctx, &agentpb.BatchCreateLogsRequest{}); return err }, ""},
		{"timing missing", func() error {
			_, err := p.ScriptCompleted(ctx, &agentpb.WorkspaceAgentScriptCompletedRequest{})
			return err
		}, "ScriptCompleted: the message is missing"},
		{"timing without an id", func() error { return timing(func(m *agentpb.Timing) { m.ScriptId = nil }) }, "timing.script_id has 0 bytes"},
		{"timing without a start", func() error { return timing(func(m *agentpb.Timing) { m.Start = nil }) }, "timing.start is missing"},
		{"timing with a bad end", func() error { return timing(func(m *agentpb.Timing) { m.End = never }) }, "timing.end"},
		{"timing at zero", func() error {
			return timing(func(m *agentpb.Timing) { m.Start = &timestamppb.Timestamp{Seconds: -62135596800} })
		}, "timing.start is zero"},
		{"timing backwards", func() error { return timing(func(m *agentpb.Timing) { m.End = &timestamppb.Timestamp{Seconds: 1} }) }, "before timing.start"},
		{"timing of unknown enums", func() error {
			return timing(func(m *agentpb.Timing) { m.Stage, m.Status, m.ExitCode = 99, -1, math.MinInt32 })
		}, ""},
		{"connection missing", func() error { _, err := p.ReportConnection(ctx, &agentpb.ReportConnectionRequest{}); return err }, "ReportConnection: the message is missing"},
		{"connection without an id", func() error { return connection(func(m *agentpb.Connection) { m.Id = nil }) }, "connection.id has 0 bytes"},
		{"connection of nobody", func() error { return connection(func(m *agentpb.Connection) { m.Id = uuid.Nil[:] }) }, "connection.id is all zero"},
		{"connection without an action", func() error { return connection(func(m *agentpb.Connection) { m.Action = 0 }) }, "unknown connection action 0"},
		{"connection of no type", func() error {
			return connection(func(m *agentpb.Connection) { m.Type, m.Ip, m.AppName = 0, "\x00", strings.Repeat("a", 9000) })
		}, ""},
		{"usage without points", func() error {
			_, err := p.PushResourcesMonitoringUsage(ctx, &agentpb.PushResourcesMonitoringUsageRequest{})
			return err
		}, "PushResourcesMonitoringUsage: the message is missing"},
		{"usage of an empty point", func() error {
			_, err := p.PushResourcesMonitoringUsage(ctx, &agentpb.PushResourcesMonitoringUsageRequest{Datapoints: []*agentpb.PushResourcesMonitoringUsageRequest_Datapoint{{}}})
			return err
		}, ""},
		{"stats of nothing", func() error {
			_, err := p.UpdateStats(ctx, &agentpb.UpdateStatsRequest{Stats: &agentpb.Stats{}})
			return err
		}, ""},
		{"stats of extremes", func() error {
			r := stockStats(math.MinInt64, math.MaxInt64, nil...)
			r.Stats.Metrics = []*agentpb.Stats_Metric{{}, {Labels: []*agentpb.Stats_Metric_Label{{}}}}
			r.Stats.SessionCounts = map[string]int64{"": math.MaxInt64, "\x00": math.MaxInt64}
			_, err := p.UpdateStats(ctx, r)
			return err
		}, ""},
		{"a hello of a bad epoch", func() error {
			r := ours{w, []byte("x")}.report()
			r.Stats = nil
			_, err := p.UpdateStats(ctx, r)
			return err
		}, "epoch has 1 bytes, not 16"},
		{"our report without stats", func() error {
			r := ours{w, newID()}.report(ours{w, newID()}.window(1, 1))
			r.Stats = nil
			resp, err := p.UpdateStats(ctx, r)
			if len(resp.GetWorktally().GetAcknowledged()) != 1 {
				t.Error("a window without stats is not acknowledged")
			}
			return err
		}, ""},
		{"invalid UTF-8", func() error {
			// Encoders refuse it, so it comes as raw bytes.
			return p.Invoke(ctx, "/coder.agent.v2.Agent/UpdateStartup", rawEncoding{}, []byte{0x0a, 0x03, 0x0a, 0x01, 0xff}, nil)
		}, "UTF-8"},
		{"no protobuf", func() error {
			return p.Invoke(ctx, "/coder.agent.v2.Agent/UpdateStats", rawEncoding{}, []byte{0xff, 0xff, 0xff}, nil)
		}, "parse"},
		{"no such call", func() error { return p.Invoke(ctx, "/coder.agent.v2.Agent/None", rawEncoding{}, nil, nil) }, `unknown rpc: "/coder.agent.v2.Agent/None"`},
	} {
		err := c.call()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
		if _, err := p.GetManifest(ctx, &agentpb.GetManifestRequest{}); err != nil {
			t.Fatalf("after %s the session is dead: %v", c.name, err)
		}
	}
	for _, call := range []string{"UpdateStartup", "UpdateLifecycle", "BatchUpdateMetadata", "ScriptCompleted", "ReportConnection", "PushResourcesMonitoringUsage"} {
		if n := w.count("worktally_missing_messages_total", "call", call); n != "1" {
			t.Errorf("missing messages of %s: %s", call, n)
		}
	}
	if n := w.count("worktally_agent_rejected_total", "reason", "panic"); n != "0" {
		t.Errorf("panics: %s", n)
	}
}

// rawEncoding sends bytes as they are.
type rawEncoding struct{}

func (rawEncoding) Marshal(m drpc.Message) ([]byte, error) {
	b, _ := m.([]byte)
	return b, nil
}
func (rawEncoding) Unmarshal([]byte, drpc.Message) error { return nil }

// TestHostile_UnservedCalls checks that calls we do not serve are known and
// answered with the one code that peers understand.
func TestHostile_UnservedCalls(t *testing.T) {
	w := newWorld(t, setup{})
	p := w.dial()
	for _, rpc := range []string{
		"/coder.agent.v2.Agent/CreateSubAgent", "/coder.agent.v2.Agent/DeleteSubAgent", "/coder.agent.v2.Agent/ReportBoundaryLogs",
		"/coder.agent.v2.Agent/UpdateAppStatus", "/coder.agent.v2.Agent/PushContextState",
		"/coder.tailnet.v2.Tailnet/PostTelemetry", "/coder.tailnet.v2.Tailnet/RefreshResumeToken", "/coder.tailnet.v2.Tailnet/WorkspaceUpdates",
	} {
		if err := p.Invoke(t.Context(), rpc, rawEncoding{}, nil, nil); !wire.IsUnimplemented(err) {
			t.Errorf("%s: %v (code %d), want code 12", rpc, err, drpcerr.Code(err))
		}
	}
	if resp, err := p.ListSubAgents(t.Context(), &agentpb.ListSubAgentsRequest{}); err != nil || len(resp.Agents) != 0 {
		t.Errorf("ListSubAgents: %v, %v", resp, err)
	}
}

// panickyCatalog breaks while it stores a lifecycle.
type panickyCatalog struct{ agentapi.Catalog }

func (panickyCatalog) SetLifecycle(context.Context, uuid.UUID, agentpb.Lifecycle_State, time.Time) error {
	var m map[string]int
	m["x"]++
	return nil
}

func TestHostile_PanicIsOneError(t *testing.T) {
	w := newWorld(t, setup{options: func(o *agentapi.Options) { o.Catalog = panickyCatalog{o.Catalog} }})
	p := w.dial()
	if _, err := p.UpdateLifecycle(t.Context(), lifecycle(agentpb.Lifecycle_READY)); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("err = %v", err)
	}
	if _, err := p.GetManifest(t.Context(), &agentpb.GetManifestRequest{}); err != nil {
		t.Errorf("the session is dead: %v", err)
	}
	if n := w.count("worktally_agent_rejected_total", "reason", "panic"); n != "1" {
		t.Errorf("panics counted: %s", n)
	}
}

// TestHostile_GarbageSessions sends bytes that are no session.
func TestHostile_GarbageSessions(t *testing.T) {
	w := newWorld(t, setup{})
	good := w.dial()
	var group sync.WaitGroup
	for _, garbage := range []string{"", "\x00", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("\xff", 1<<16), "\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff"} {
		group.Go(func() {
			ws, _, err := w.socket(w.token, "?version=2.0")
			if err != nil {
				t.Error(err)
				return
			}
			_ = ws.Write(t.Context(), 2, []byte(garbage))
			_ = ws.CloseNow()
		})
	}
	group.Wait()
	poll(t, "the end of the garbage", func() bool { return w.page()["worktally_agent_sessions"] == "1" })
	if _, err := good.GetManifest(t.Context(), &agentpb.GetManifestRequest{}); err != nil {
		t.Errorf("a good session died of it: %v", err)
	}
	if !w.agents.Connected(w.agent.ID) {
		t.Error("the good session does not count")
	}
}

func TestHostile_DropEndsSessions(t *testing.T) {
	w := newWorld(t, setup{})
	otherToken, _ := w.other("box2")
	stays := w.dialAs(otherToken, "?version=2.6")
	agent, helper := w.dial(), w.dialAs(w.token, "?version=2.6&role=x")
	for _, p := range []*peer{stays, agent, helper} {
		_, err := p.GetManifest(t.Context(), &agentpb.GetManifestRequest{})
		must(t, err)
	}
	_, fresh, err := w.catalog.RotateAgentToken(t.Context(), w.ws.ID, "main")
	must(t, err)
	w.agents.Drop(w.agent.ID)
	<-agent.Closed()
	<-helper.Closed()
	if _, err := stays.GetManifest(t.Context(), &agentpb.GetManifestRequest{}); err != nil {
		t.Errorf("another agent's session: %v", err)
	}
	if _, resp, err := w.socket(w.token, ""); err == nil || resp.StatusCode != 401 {
		t.Errorf("the old token still works: %v", err)
	}
	_, err = w.dialAs(fresh, "").GetManifest(t.Context(), &agentpb.GetManifestRequest{})
	must(t, err)
	w.agents.Close()
	<-stays.Closed()
	if ws, _, err := w.socket(fresh, ""); err == nil {
		if _, _, err := ws.Read(t.Context()); err == nil {
			t.Error("a session after Close")
		}
	}
}

// rotating changes the token right after one of the looks at it.
type rotating struct {
	agentapi.Catalog
	after int32 // the number of the look
	looks *atomic.Int32
	do    func()
}

func (r rotating) AgentByToken(ctx context.Context, token string) (catalog.Identity, error) {
	id, err := r.Catalog.AgentByToken(ctx, token)
	if r.looks.Add(1) == r.after {
		r.do()
	}
	return id, err
}

// TestHostile_TokenRotatedWhileConnecting: a drop that comes before the session
// can be dropped must not be missed.
func TestHostile_TokenRotatedWhileConnecting(t *testing.T) {
	var w *world
	w = newWorld(t, setup{options: func(o *agentapi.Options) {
		o.Catalog = rotating{o.Catalog, 1, new(atomic.Int32), func() {
			_, _, err := w.catalog.RotateAgentToken(t.Context(), w.ws.ID, "main")
			must(t, err)
			w.agents.Drop(w.agent.ID)
		}}
	}})
	ws, _, err := w.socket(w.token, "")
	must(t, err)
	if _, _, err := ws.Read(t.Context()); err == nil {
		t.Error("the session of a token that is no longer valid was served")
	}
	if !w.state().FirstConnectedAt.IsZero() {
		t.Error("the agent counts as connected")
	}
}

// TestHostile_TokenReplacedWhileConnecting: the end that a token gets between the
// second look at it and what comes of that is not forgotten.
func TestHostile_TokenReplacedWhileConnecting(t *testing.T) {
	var w *world
	w = newWorld(t, setup{options: func(o *agentapi.Options) {
		o.Catalog = rotating{o.Catalog, 2, new(atomic.Int32), func() {
			_, err := w.catalog.ReplaceAgentToken(context.Background(), w.ws.ID, "main", 300*time.Millisecond)
			must(t, err)
			w.agents.Recheck(context.Background(), w.agent.ID)
		}}
	}})
	p := w.dial()
	select {
	case <-p.Closed():
	case <-time.After(time.Minute):
		t.Error("the session outlives its token")
	}
}

func TestNew_WhatIsRequired(t *testing.T) {
	if _, err := agentapi.New(agentapi.Options{}); err == nil || errors.Unwrap(err) != nil {
		t.Errorf("err = %v", err)
	}
}
