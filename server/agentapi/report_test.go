package agentapi_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/worktally/worktally/server/agentapi"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

func lifecycle(s agentpb.Lifecycle_State) *agentpb.UpdateLifecycleRequest {
	return &agentpb.UpdateLifecycleRequest{Lifecycle: &agentpb.Lifecycle{State: s, ChangedAt: timestamppb.Now()}}
}

func stockStats(rx, tx int64, metrics ...*agentpb.Stats_Metric) *agentpb.UpdateStatsRequest {
	return &agentpb.UpdateStatsRequest{Stats: &agentpb.Stats{RxBytes: rx, TxBytes: tx, ConnectionMedianLatencyMs: -0.001, Metrics: metrics}}
}

func counter(name string, v float64, labels ...string) *agentpb.Stats_Metric {
	return metric(agentpb.Stats_Metric_COUNTER, name, v, labels...)
}

func gauge(name string, v float64, labels ...string) *agentpb.Stats_Metric {
	return metric(agentpb.Stats_Metric_GAUGE, name, v, labels...)
}

func metric(typ agentpb.Stats_Metric_Type, name string, v float64, labels ...string) *agentpb.Stats_Metric {
	m := &agentpb.Stats_Metric{Name: name, Type: typ, Value: v}
	for i := 0; i < len(labels); i += 2 {
		m.Labels = append(m.Labels, &agentpb.Stats_Metric_Label{Name: labels[i], Value: labels[i+1]})
	}
	return m
}

// series is the name of a series of the world's agent on the page; labels stand
// in front of the identity's when they sort so.
func (w *world) series(name string, labels ...string) string {
	identity := `agent_name="main",username="ann",workspace_name="box"`
	if !strings.HasPrefix(name, "coderd_agent") || strings.Contains(name, "startup") || strings.Contains(name, "reachable") {
		identity = `agent_name="main",username="ann",workspace_name="box",template_name="go"`
	}
	for _, l := range labels {
		identity += "," + l
	}
	return name + "{" + identity + "}"
}

func TestReport_StockDeltas(t *testing.T) {
	w := newWorld(t, setup{})
	p := w.dialAs(w.token, "?version=2.6")
	hello, err := p.UpdateStats(t.Context(), &agentpb.UpdateStatsRequest{})
	must(t, err)
	if hello.ReportInterval.AsDuration() != 30*time.Second || hello.Worktally != nil {
		t.Errorf("answer to a stock hello: %v", hello)
	}
	if _, shown := w.page()[w.series("coderd_agentstats_rx_bytes")]; shown {
		t.Error("a hello made series")
	}
	r := stockStats(100, 7, counter("agent_scripts_executed_total", 3, "success", "true"))
	r.Stats.SessionCountSsh, r.Stats.ConnectionCount = 1, 2
	resp, err := p.UpdateStats(t.Context(), r)
	must(t, err)
	if resp.Worktally != nil {
		t.Error("a stock agent got our extension")
	}
	r2 := stockStats(11, 1, counter("agent_scripts_executed_total", 5, "success", "true"))
	r2.Stats.SessionCounts = map[string]int64{"Cursor": 2, "cursor": 1, "zed": 1, "none": 0, "minus": -4}
	r2.Stats.SessionCountSsh = 9 // the map counts
	r2.Stats.ConnectionMedianLatencyMs = 12.5
	_, err = p.UpdateStats(t.Context(), r2)
	must(t, err)
	// The counter falls: the agent counted from 0 again.
	_, err = p.UpdateStats(t.Context(), stockStats(0, 0, counter("agent_scripts_executed_total", 2, "success", "true")))
	must(t, err)
	w.want(map[string]string{
		w.series("agent_network_receive_bytes_total", `path="tailnet"`):  "111",
		w.series("agent_network_transmit_bytes_total", `path="tailnet"`): "8",
		w.series("coderd_agentstats_rx_bytes"):                           "111",
		w.series("coderd_agentstats_tx_bytes"):                           "8",
		w.series("agent_scripts_executed_total", `success="true"`):       "7",
		w.series("agent_scripts_executed_total", `success="false"`):      "0",
		w.series("coderd_agentstats_session_count_ssh"):                  "0",
		w.series("coderd_agentstats_connection_median_latency_seconds"):  "", // the last report had no peer
		`worktally_reports_total{result="hello"}`:                        "1",
		`worktally_reports_total{result="ok"}`:                           "3",
	})
}

// TestReport_StockRestarts: what tells of a restart need not be taken itself.
func TestReport_StockRestarts(t *testing.T) {
	w := newWorld(t, setup{})
	p := w.dialAs(w.token, "?version=2.6")
	long := strings.Repeat("x", 512)
	for _, network := range []float64{9000, 9500, 80, 90} {
		_, err := p.UpdateStats(t.Context(), stockStats(0, 0, counter("agent_scripts_executed_total", 1, "success", "true"),
			counter("magicsock_a", network), counter("magicsock_b", network, "path", "direct"), counter("magicsock_c", 2*network, "path", ""),
			counter(long, network+1), counter("magicsock_d", network+1, "path", long)))
		must(t, err)
	}
	w.want(map[string]string{w.series("agent_scripts_executed_total", `success="true"`): "2"})
	for name := range w.page() {
		if strings.Contains(name, "magicsock") {
			t.Errorf("%s is shown", name)
		}
	}
}

func TestReport_StockGauges(t *testing.T) {
	w := newWorld(t, setup{})
	p := w.dial()
	r := stockStats(0, 0)
	r.Stats.SessionCounts = map[string]int64{"Cursor": 2, "cursor": 1, "zed": 1, "reconnecting-pty": 5, "what": 2}
	r.Stats.ConnectionMedianLatencyMs = 12.5
	_, err := p.UpdateStats(t.Context(), r)
	must(t, err)
	w.want(map[string]string{
		w.series("coderd_agentstats_session_count_vscode"):              "3",
		w.series("coderd_agentstats_session_count_ssh"):                 "3", // zed and the unknown one
		w.series("coderd_agentstats_session_count_reconnecting_pty"):    "5",
		w.series("coderd_agentstats_session_count_jetbrains"):           "0",
		w.series("coderd_agentstats_connection_median_latency_seconds"): "0.0125",
	})
	for _, ms := range []float64{-0.001, 0, 0.001, math.NaN(), math.Inf(1), math.Inf(-1)} {
		r.Stats.ConnectionMedianLatencyMs = ms
		_, err := p.UpdateStats(t.Context(), r)
		must(t, err)
		if v, shown := w.page()[w.series("coderd_agentstats_connection_median_latency_seconds")]; shown {
			t.Errorf("latency %v ms is shown as %s", ms, v)
		}
	}
}

// TestReport_Validation sends one bad series of each kind among good ones.
func TestReport_Validation(t *testing.T) {
	w := newWorld(t, setup{})
	p := w.dial()
	good := counter("agent_scripts_executed_total", 4, "success", "true")
	for _, c := range []struct {
		name, reason string
		bad          *agentpb.Stats_Metric
	}{
		{"an empty name", "invalid_name", counter("", 1)},
		{"dots", "invalid_name", counter("agent.x", 1)},
		{"a long name", "invalid_name", counter("agent_"+strings.Repeat("x", 200), 1)},
		{"a NUL in the name", "invalid_name", counter("agent_\x00", 1)},
		{"a part of another family", "invalid_name", gauge("agent_new_created", 1)},
		{"an identity label", "invalid_label", counter("agent_new_total", 1, "username", "root")},
		{"a reserved label", "invalid_label", counter("agent_new_total", 1, "__name__", "x")},
		{"a bad label name", "invalid_label", counter("agent_new_total", 1, "a-b", "x")},
		{"an empty label name", "invalid_label", counter("agent_new_total", 1, "", "x")},
		{"a label twice", "invalid_label", counter("agent_new_total", 1, "a", "x", "a", "y")},
		{"a long value", "invalid_label", counter("agent_new_total", 1, "a", strings.Repeat("x", 513))},
		{"a NUL in a value", "invalid_label", counter("agent_new_total", 1, "a", "\x00")},
		{"too many labels", "invalid_label", counter("agent_new_total", 1, manyLabels(17)...)},
		{"a bound on a counter", "invalid_label", counter("agent_new_total", 1, "le", "1.0")},
		{"a bucket without a bound", "invalid_label", counter("agent_session_duration_seconds_bucket", 1, "family", "ssh")},
		{"a bound that is no number", "invalid_label", counter("agent_session_duration_seconds_bucket", 1, "family", "ssh", "le", "NaN")},
		{"a bound in another form", "invalid_label", counter("agent_session_duration_seconds_bucket", 1, "family", "ssh", "le", "1")},
		{"not a number", "invalid_value", counter("agent_new_total", math.NaN())},
		{"infinity", "invalid_value", gauge("agent_new", math.Inf(1))},
		{"a negative counter", "invalid_value", counter("agent_new_total", -1)},
		{"a counter beyond exactness", "invalid_value", counter("agent_new_total", 1<<54)},
		{"a family of the server", "not_allowed", gauge("coderd_agents_up", 1)},
		{"an agentstats that the server makes", "not_allowed", gauge("coderd_agentstats_rx_bytes", 1)},
		{"a family of the runtime", "not_allowed", gauge("go_goroutines", 1)},
		{"a total of the deployment", "not_allowed", counter("worktally_workspace_bytes_total", 1)},
		{"a family of the agent's own page", "not_allowed", counter("agent_reports_total", 1, "result", "ok")},
		{"a family of nobody", "not_allowed", counter("something_total", 1)},
		{"the overlay's without the flag", "not_collected", counter("magicsock_x", 1)},
		{"no type", "no_type", metric(0, "agent_new_total", 1)},
		{"an unknown type", "no_type", metric(99, "agent_new_total", 1)},
		{"a counter as gauge", "type_conflict", gauge("agent_scripts_executed_total", 1)},
		{"a gauge as counter", "type_conflict", counter("coderd_agentstats_currently_reachable_peers", 1)},
		{"a histogram without a part", "type_conflict", counter("agent_session_duration_seconds", 1)},
		{"the same series", "duplicate", counter("agent_scripts_executed_total", 9, "success", "true")},
		{"the same series with an empty label", "duplicate", counter("agent_scripts_executed_total", 9, "success", "true", "extra", "")},
	} {
		before := w.count("worktally_rejected_series_total", "reason", c.reason)
		_, err := p.UpdateStats(t.Context(), stockStats(0, 0, good, c.bad, gauge("agent_good", 1)))
		must(t, err)
		after := w.count("worktally_rejected_series_total", "reason", c.reason)
		if after != plus(before, 1) {
			t.Errorf("%s: %s went from %s to %s", c.name, c.reason, before, after)
		}
		w.want(map[string]string{
			w.series("agent_scripts_executed_total", `success="true"`): "4",
			w.series("agent_good"): "1",
		})
	}
	for name := range w.page() {
		if strings.HasPrefix(name, "agent_new") {
			t.Errorf("%s is shown", name)
		}
	}
}

func TestReport_TooManySeriesAndFamilies(t *testing.T) {
	w := newWorld(t, setup{})
	p := w.dial()
	r := stockStats(0, 0)
	for i := range 1005 {
		r.Stats.Metrics = append(r.Stats.Metrics, gauge("agent_many", 1, "n", fmt.Sprint(i)))
	}
	_, err := p.UpdateStats(t.Context(), r)
	must(t, err)
	if n := w.count("worktally_rejected_series_total", "reason", "too_many_series"); n != "5" {
		t.Errorf("too many series: %s", n)
	}
	r = stockStats(0, 0)
	for i := range 70 { // and agent_many
		r.Stats.Metrics = append(r.Stats.Metrics, gauge(fmt.Sprintf("agent_family_%d", i), 1))
	}
	_, err = p.UpdateStats(t.Context(), r)
	must(t, err)
	if n := w.count("worktally_rejected_series_total", "reason", "too_many_families_of_workspace"); n != "7" {
		t.Errorf("too many families of one workspace: %s", n)
	}
	for i := range 8 { // others find room, until all is taken
		token, _ := w.other(fmt.Sprint("more", i))
		r = stockStats(0, 0)
		for j := range 64 {
			r.Stats.Metrics = append(r.Stats.Metrics, gauge(fmt.Sprintf("agent_family_%d_%d", i, j), 1))
		}
		_, err = w.dialAs(token, "?version=2.6").UpdateStats(t.Context(), r)
		must(t, err)
	}
	if n := w.count("worktally_rejected_series_total", "reason", "too_many_families"); n != "64" {
		t.Errorf("too many families: %s", n)
	}
	r = stockStats(0, 0)
	r.Stats.SessionCounts = map[string]int64{"ssh": 1}
	for i := range 80 {
		r.Stats.SessionCounts[fmt.Sprintf("app%02d", i)] = int64(2 + i)
	}
	_, err = p.UpdateStats(t.Context(), r)
	must(t, err)
	// 64 names stay; the 17 smallest are counted as unknown, which is ssh's gauge.
	w.want(map[string]string{
		`worktally_rejected_series_total{reason="too_many_session_names"}`: "17",
		w.series("coderd_agentstats_session_count_ssh"):                    fmt.Sprint(1 + 80*2 + 79*80/2),
	})
}

func TestReport_DynamicTypes(t *testing.T) {
	w := newWorld(t, setup{options: func(o *agentapi.Options) { o.CollectOverlay = true }})
	token, _ := w.other("box2")
	one, two := w.dial(), w.dialAs(token, "?version=2.6")
	_, err := one.UpdateStats(t.Context(), stockStats(0, 0, counter("agent_thing", 1), counter("magicsock_a", 2)))
	must(t, err)
	_, err = two.UpdateStats(t.Context(), stockStats(0, 0, gauge("agent_thing", 5), counter("magicsock_a", 3)))
	must(t, err)
	if n := w.count("worktally_rejected_series_total", "reason", "type_conflict"); n != "1" {
		t.Errorf("conflicts: %s", n)
	}
	w.want(map[string]string{
		w.series("agent_thing"): "1",
		w.series("magicsock_a"): "2",
		strings.ReplaceAll(w.series("magicsock_a"), `"box"`, `"box2"`): "3",
		strings.ReplaceAll(w.series("agent_thing"), `"box"`, `"box2"`): "",
	})
}

func plus(s string, by int) string {
	var n int
	_, _ = fmt.Sscan(s, &n)
	return fmt.Sprint(n + by)
}

func manyLabels(n int) []string {
	var l []string
	for i := range n {
		l = append(l, fmt.Sprintf("l%d", i), "x")
	}
	return l
}

// ours are reports with our extension.
type ours struct {
	w     *world
	epoch []byte
}

func (o ours) window(seq uint64, scripts float64) *worktallypb.Window {
	return &worktallypb.Window{
		Sequence: seq, WorkspaceId: o.w.ws.ID[:], AgentName: "main", Epoch: o.epoch,
		Length: durationpb.New(30 * time.Second), Age: durationpb.New(time.Millisecond), WindowRxBytes: 10 * seq, WindowTxBytes: seq,
		Totals: []*worktallypb.Series{{Name: "agent_scripts_executed_total", Labels: []string{"success", "true"}, Value: scripts}},
		Gauges: &worktallypb.Gauges{
			ConnectionCount: int64(seq), Sessions: []*worktallypb.OpenSessions{{AppName: "ssh", Family: "jetbrains", Count: int64(seq)}},
		},
	}
}

func (o ours) report(windows ...*worktallypb.Window) *agentpb.UpdateStatsRequest {
	return &agentpb.UpdateStatsRequest{
		// What a stock server would read; ours must not.
		Stats:     &agentpb.Stats{RxBytes: 1 << 40, TxBytes: 1 << 40, SessionCountVscode: 77},
		Worktally: &worktallypb.ReportRequest{Protocol: 1, Epoch: o.epoch, Windows: windows},
	}
}

func (o ours) hello(t *testing.T, p *peer) uint64 {
	t.Helper()
	resp, err := p.UpdateStats(t.Context(), &agentpb.UpdateStatsRequest{Worktally: &worktallypb.ReportRequest{Protocol: 1, Epoch: o.epoch}})
	must(t, err)
	if resp.GetWorktally().GetProtocol() != 1 {
		t.Fatalf("answer to our hello: %v", resp)
	}
	return resp.Worktally.LastSequence
}

// send reports and returns the reasons of the acknowledgements by sequence.
func (o ours) send(t *testing.T, p *peer, windows ...*worktallypb.Window) map[uint64]string {
	t.Helper()
	resp, err := p.UpdateStats(t.Context(), o.report(windows...))
	must(t, err)
	acks := make(map[uint64]string)
	for _, a := range resp.GetWorktally().GetAcknowledged() {
		acks[a.Sequence] = a.Refused
	}
	if len(acks) != len(windows) {
		t.Errorf("%d acknowledgements of %d windows", len(acks), len(windows))
	}
	return acks
}

func TestReport_OursResendAndHistory(t *testing.T) {
	w := newWorld(t, setup{})
	p := w.dial()
	o := ours{w, newID()}
	if last := o.hello(t, p); last != 0 {
		t.Errorf("last sequence %d of a new epoch", last)
	}
	history := o.window(1, 0)
	history.Totals = nil
	history.Age = durationpb.New(2 * time.Minute)
	for range 3 { // a resend changes nothing
		if acks := o.send(t, p, o.window(2, 5), history); acks[1] != "" || acks[2] != "" {
			t.Errorf("refused: %v", acks)
		}
	}
	w.want(map[string]string{
		w.series("agent_scripts_executed_total", `success="true"`): "5",
		w.series("coderd_agentstats_rx_bytes"):                     "20", // neither stock bytes nor the late window
		w.series("coderd_agentstats_connection_count"):             "2",
		w.series("coderd_agentstats_session_count_ssh"):            "2", // the family is ours to decide
		w.series("coderd_agentstats_session_count_vscode"):         "0",
		w.series("coderd_agentstats_session_count_jetbrains"):      "0",
	})
	if last := o.hello(t, w.dial()); last != 2 {
		t.Errorf("last sequence %d, want 2", last)
	}
	for range 2 { // nothing doubled in the deployment's totals either
		o.send(t, p, o.window(3, 9))
	}
	poll(t, "the deployment's total", func() bool { return w.page()[`worktally_workspace_scripts_total{success="true"}`] == "9" })
}

func TestReport_RefusedWindows(t *testing.T) {
	w := newWorld(t, setup{})
	_, foreign := w.other("box2")
	p := w.dial()
	o := ours{w, newID()}
	edit := func(seq uint64, f func(*worktallypb.Window)) *worktallypb.Window {
		win := o.window(seq, float64(seq))
		f(win)
		return win
	}
	acks := o.send(t, p,
		o.window(10, 10),
		edit(1, func(win *worktallypb.Window) { win.WorkspaceId = foreign.ID[:] }),
		edit(2, func(win *worktallypb.Window) { win.AgentName = "other" }),
		edit(3, func(win *worktallypb.Window) { win.WorkspaceId = []byte("short") }),
		edit(4, func(win *worktallypb.Window) { win.Epoch = nil }),
		edit(5, func(win *worktallypb.Window) { win.Age = durationpb.New(-time.Second) }),
		edit(6, func(win *worktallypb.Window) { win.Length = &durationpb.Duration{Seconds: math.MaxInt64} }),
		edit(7, func(win *worktallypb.Window) { win.Epoch = uuid.Nil[:] }),
		edit(8, func(win *worktallypb.Window) { win.Gauges, win.Totals = nil, nil }),
		edit(0, func(win *worktallypb.Window) {}),
	)
	want := map[uint64]string{10: "", 1: "foreign_identity", 2: "foreign_identity", 3: "malformed", 4: "malformed", 5: "malformed", 6: "malformed", 7: "bad_epoch", 8: "", 0: "bad_sequence"}
	for seq, reason := range want {
		if acks[seq] != reason {
			t.Errorf("window %d: %q, want %q", seq, acks[seq], reason)
		}
	}
	if acks := o.send(t, p, o.window(11, 3)); acks[11] != "totals_fell" {
		t.Errorf("totals that fell: %v", acks)
	}
	w.want(map[string]string{
		w.series("agent_scripts_executed_total", `success="true"`):    "10",
		`worktally_rejected_windows_total{reason="foreign_identity"}`: "2",
		`worktally_rejected_windows_total{reason="malformed"}`:        "4",
		`worktally_rejected_windows_total{reason="totals_fell"}`:      "1",
	})
	for name := range w.page() {
		if strings.Contains(name, "box2") && strings.HasPrefix(name, "coderd_agentstats") {
			t.Errorf("%s: a foreign workspace got series", name)
		}
	}
	many := make([]*worktallypb.Window, 514)
	for i := range many {
		many[i] = o.window(uint64(1000-i), 20)
		if i > 0 {
			many[i].Totals = nil
		}
	}
	acks = o.send(t, p, many...)
	if acks[1000] != "" || acks[1000-511] != "" || acks[1000-512] != "too_many_windows" || acks[1000-513] != "too_many_windows" {
		t.Errorf("bound of windows: %q %q %q", acks[1000], acks[1000-511], acks[1000-512])
	}
}

// lossyLedger loses the answer of the next commit.
type lossyLedger struct {
	agentapi.Ledger
	lose chan struct{}
}

func (l lossyLedger) Commit(ctx context.Context, s ledger.Submission) (ledger.Outcome, error) {
	out, err := l.Ledger.Commit(ctx, s)
	select {
	case <-l.lose:
		return ledger.Outcome{}, errors.New("the connection broke after the commit")
	default:
		return out, err
	}
}

func TestReport_LostReplyDoublesNothing(t *testing.T) {
	lose := make(chan struct{}, 1)
	w := newWorld(t, setup{options: func(o *agentapi.Options) { o.Ledger = lossyLedger{o.Ledger, lose} }})
	p := w.dial()
	o := ours{w, newID()}
	o.send(t, p, o.window(1, 3))
	lose <- struct{}{}
	if _, err := p.UpdateStats(t.Context(), o.report(o.window(2, 8))); err == nil {
		t.Fatal("the call succeeded")
	}
	if n := w.count("worktally_reports_total", "result", "error"); n != "1" {
		t.Errorf("errors: %s", n)
	}
	if last := o.hello(t, p); last != 2 {
		t.Errorf("last sequence %d", last)
	}
	for range 2 {
		if acks := o.send(t, p, o.window(2, 8)); acks[2] != "" {
			t.Errorf("refused: %v", acks)
		}
	}
	w.want(map[string]string{w.series("agent_scripts_executed_total", `success="true"`): "8"})
	poll(t, "the deployment's total", func() bool { return w.page()[`worktally_workspace_scripts_total{success="true"}`] == "8" })
}

func TestReport_OlderSessionDeliversTotalsOnly(t *testing.T) {
	w := newWorld(t, setup{})
	older := w.dial()
	o := ours{w, newID()}
	o.send(t, older, o.window(1, 1))
	newer := w.dial()
	o.send(t, newer, o.window(2, 2))
	o.send(t, older, o.window(3, 7))
	w.want(map[string]string{
		w.series("agent_scripts_executed_total", `success="true"`): "7",
		w.series("coderd_agentstats_connection_count"):             "2",
		w.series("coderd_agentstats_rx_bytes"):                     "30",
	})
	_, err := older.UpdateLifecycle(t.Context(), lifecycle(agentpb.Lifecycle_OFF))
	must(t, err)
	must(t, older.Close())
	poll(t, "one session", func() bool { return w.page()["worktally_agent_sessions"] == "1" })
	w.want(map[string]string{w.series("coderd_agentstats_connection_count"): "2"})
	if !w.agents.Connected(w.agent.ID) {
		t.Error("the end of the older session ended the agent")
	}
	_, err = newer.UpdateLifecycle(t.Context(), lifecycle(agentpb.Lifecycle_OFF))
	must(t, err)
	w.want(map[string]string{w.series("coderd_agentstats_connection_count"): ""})
	// What an older session still delivers does not bring the series back.
	third := w.dial()
	o.send(t, third, o.window(4, 8))
	w.want(map[string]string{w.series("coderd_agentstats_connection_count"): "4"})
	_, err = third.UpdateLifecycle(t.Context(), lifecycle(agentpb.Lifecycle_SHUTDOWN_ERROR))
	must(t, err)
	o.send(t, newer, o.window(5, 9))
	w.want(map[string]string{w.series("coderd_agentstats_connection_count"): ""})
}

func TestReport_GaugesAreBounded(t *testing.T) {
	w := newWorld(t, setup{})
	p := w.dial()
	o := ours{w, newID()}
	win := o.window(1, 1)
	win.WindowRxBytes = math.MaxUint64
	win.Gauges.ConnectionCount = math.MinInt64
	win.Gauges.MedianLatencySeconds = proto.Float64(math.Inf(1))
	win.Gauges.Sessions = []*worktallypb.OpenSessions{{AppName: "\x00\u202e", Count: math.MaxInt64}, {AppName: "ssh", Count: -1}}
	win.Gauges.ConnectionsByProto = map[string]int64{strings.Repeat("x", 1000): 1, "TCP": -1}
	if acks := o.send(t, p, win); acks[1] != "" {
		t.Errorf("refused: %v", acks)
	}
	w.want(map[string]string{
		w.series("coderd_agentstats_connection_count"):                  "0",
		w.series("coderd_agentstats_connection_median_latency_seconds"): "",
		w.series("coderd_agentstats_session_count_ssh"):                 "2147483648",
		w.series("coderd_agentstats_rx_bytes"):                          "9.007199254740992e+15",
	})
}
