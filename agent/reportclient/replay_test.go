package reportclient

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/appname"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

// TestReplay_QueuedRequests answers as the recorded server did, tells the client
// what happened in the recorded agent, and compares what each message says: no
// field is excepted, because times and ids are inputs here.
func TestReplay_QueuedRequests(t *testing.T) {
	requests := wiretest.Recorded(t, "request")
	inBubble(t, func(o *Options) { o.Version = "v0.0.0-devel+4bced62" }, func(t *testing.T, c *Client, s *wiretest.Service) {
		s.Replay(t)
		stop := start(t, c)
		for _, m := range requests["UpdateLifecycle"] {
			c.SetLifecycle(m.(*agentpb.UpdateLifecycleRequest).GetLifecycle().GetState())
		}
		for _, m := range requests["ScriptCompleted"] {
			c.ReportTiming(m.(*agentpb.WorkspaceAgentScriptCompletedRequest).GetTiming())
		}
		for _, m := range requests["ReportConnection"] {
			c.ReportConnection(eventOf(m.(*agentpb.ReportConnectionRequest).GetConnection()))
		}
		for _, m := range requests["BatchCreateLogs"] {
			batch := m.(*agentpb.BatchCreateLogsRequest)
			for _, l := range batch.GetLogs() {
				c.Log(uuid.UUID(batch.GetLogSourceId()), LogLine{Time: l.GetCreatedAt().AsTime(), Level: l.GetLevel(), Text: l.GetOutput()})
			}
			if err := c.LogsSent(t.Context()); err != nil { // batch by batch, as it was
				t.Fatal(err)
			}
		}
		advance(time.Minute)
		stop()
		for name, excepted := range map[string]cmp.Option{
			"GetManifest": nil, "GetAnnouncementBanners": nil, "ScriptCompleted": nil, "BatchCreateLogs": nil,
			// Entered now, in the test.
			"UpdateLifecycle": protocmp.IgnoreFields(&agentpb.Lifecycle{}, "changed_at"),
			// The extension, which a stock server skips.
			"UpdateStartup": protocmp.IgnoreFields(&agentpb.Startup{}, "worktally"),
			// Newer than the recording.
			"ReportConnection": protocmp.IgnoreFields(&agentpb.Connection{}, "app_name"),
		} {
			compareCalls(t, name, requests[name], s.Calls(name), excepted)
		}
		hello := s.Calls("UpdateStats")[0].Request.(*agentpb.UpdateStatsRequest)
		hello.Worktally = nil
		if diff := cmp.Diff(requests["UpdateStats"][0], proto.Message(hello), protocmp.Transform()); diff != "" {
			t.Errorf("hello (-recorded +ours):\n%s", diff)
		}
		// The recorded server asks for 5 s, and is a stock one.
		if n := len(s.Calls("UpdateStats")); n < 11 || n > 13 {
			t.Errorf("%d reports in a minute", n-1)
		}
	})
}

// eventOf tells what happened to make the recorded agent say this.
func eventOf(m *agentpb.Connection) Connection {
	family := map[agentpb.Connection_Type]appname.Family{
		agentpb.Connection_SSH: appname.SSH, agentpb.Connection_VSCODE: appname.VSCode,
		agentpb.Connection_JETBRAINS: appname.JetBrains, agentpb.Connection_RECONNECTING_PTY: appname.ReconnectingPTY,
	}[m.GetType()]
	return Connection{
		ID: uuid.UUID(m.GetId()), Kind: stats.Kind{App: string(family), Family: family}, IP: m.GetIp(), At: m.GetTimestamp().AsTime(),
		Ended: m.GetAction() == agentpb.Connection_DISCONNECT, Code: m.GetStatusCode(), Reason: m.GetReason(),
	}
}

func compareCalls(t *testing.T, name string, want []proto.Message, calls []wiretest.Call, excepted cmp.Option) {
	t.Helper()
	options := cmp.Options{protocmp.Transform()}
	if excepted != nil {
		options = append(options, excepted)
	}
	if name == "GetAnnouncementBanners" {
		want = want[:1] // the second came after two minutes
	}
	var got []proto.Message
	for _, c := range calls {
		got = append(got, c.Request)
	}
	if diff := cmp.Diff(want, got, options); diff != "" {
		t.Errorf("%s (-recorded +ours):\n%s", name, diff)
	}
}

// TestReplay_Statistics makes the tally what the recorded agent's was at each of
// the three recorded reports and compares all stock fields.
func TestReplay_Statistics(t *testing.T) {
	for i, m := range wiretest.Recorded(t, "request")["UpdateStats"][1:] {
		recorded := m.(*agentpb.UpdateStatsRequest).GetStats()
		tally := stats.New(stats.Options{})
		conn := tally.OpenConn()
		for range recorded.GetSessionCountSsh() {
			conn.OpenSession(stats.SessionFacts{})
		}
		for range recorded.GetSessionCountVscode() {
			conn.OpenSession(stats.SessionFacts{Marker: "vscode"})
		}
		for range recorded.GetSessionCountJetbrains() {
			conn.OpenForward(stats.ForwardFacts{CommandLine: "com.jetbrains.toolbox"})
		}
		for range recorded.GetSessionCountReconnectingPty() {
			tally.OpenTerminal()
		}
		for proto, n := range recorded.GetConnectionsByProto() {
			for range n {
				f := tally.OpenFlow(stats.PathTCP, proto)
				f.Received(1)
			}
		}
		got := stockStats(recordOf(tally), cursor{rx: uint64(recorded.GetRxBytes()), tx: uint64(recorded.GetTxBytes())})
		if diff := cmp.Diff(recorded, got, protocmp.Transform(),
			// Packets are the tailnet's; latency 0.001 instead of the recorded sentinel
			// keeps the row; metrics have a test of their own; session_counts is newer.
			protocmp.IgnoreFields(&agentpb.Stats{}, "rx_packets", "tx_packets", "connection_median_latency_ms", "metrics", "session_counts")); diff != "" {
			t.Errorf("report %d (-recorded +ours):\n%s", i+1, diff)
		}
	}
}

// TestReplay_OrderOfASession: manifest, startup, then everything that needs them.
func TestReplay_OrderOfASession(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{})
	s.Replay(t)
	ran := make(chan struct{})
	connect(t, s, func(o *Options) {
		o.Routines = []Routine{{Name: "app health", UntilShutdown: true, Run: func(ctx context.Context, api agentpb.DRPCAgentClient) error {
			_, err := api.BatchUpdateAppHealths(ctx, &agentpb.BatchUpdateAppHealthRequest{})
			close(ran)
			<-ctx.Done()
			return err
		}}}
	})
	s.WaitCalls(t, "UpdateStats", 1)
	<-ran
	at := make(map[string]int)
	for i, call := range s.Calls() {
		at[call.Name] = i
	}
	if !(at["GetManifest"] < at["UpdateStartup"] && at["UpdateStartup"] < at["BatchUpdateAppHealths"] && at["UpdateStartup"] < at["UpdateStats"]) {
		t.Errorf("order %v", at)
	}
}
