package reportclient

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/wire/agentpb"
)

// stockNames are the families that may leave an agent besides ours, whose names
// begin with agent_: those of the contract (metrics.md 11.1), the scripts, and
// two of the coderd_agentstats_*.
func stockNames() []string {
	return []string{
		"agent_sessions_total", "agent_sessions_errors_total", "agent_ssh_server_failed_connections_total",
		"agent_ssh_server_sftp_connections_total", "agent_ssh_server_sftp_server_errors_total", "agent_x11_handler_errors_total",
		"agent_reconnecting_pty_connections_total", "agent_reconnecting_pty_errors_total",
		"agent_scripts_executed_total", "coderd_agentstats_startup_script_seconds", "coderd_agentstats_currently_reachable_peers",
	}
}

func mayLeave(name string) bool {
	return slices.Contains(stockNames(), name) || strings.HasPrefix(name, "agent_")
}

// busyTally has a series of every family.
func busyTally() *stats.Tally {
	t := stats.New(stats.Options{})
	conn := t.OpenConn()
	for _, marker := range []string{"", "vscode", "jetbrains", "cursor", "something else"} {
		for _, pty := range []bool{true, false} {
			s := conn.OpenSession(stats.SessionFacts{Marker: marker, PTY: pty})
			s.Started()
			s.Failed(stats.ErrResize)
			s.Failed(stats.ErrSignal)
		}
	}
	conn.OpenForward(stats.ForwardFacts{CommandLine: "java -Didea.vendor.name=JetBrains"})
	t.OpenTerminal()
	t.OpenFlow(stats.PathTCP, "TCP").Received(5)
	t.StartPhaseEnded(stats.Startup{Duration: time.Second, Success: true})
	t.SetPeers(stats.Peers{Measured: 1, DERP: 1, MedianLatency: time.Second})
	scriptRan(t)
	t.ScriptOverlapped()
	return t
}

func recordOf(t *stats.Tally) *record {
	w := t.CutWindow()
	return &record{Totals: w.Totals, Gauges: w.Gauges, Length: 30 * time.Second, End: w.End, RxBytes: w.RxBytes, TxBytes: w.TxBytes}
}

// TestForwarded_IsTheExplicitList takes everything that would be sent to a stock
// server and compares it with the list and with the table of the pages.
func TestForwarded_IsTheExplicitList(t *testing.T) {
	r := recordOf(busyTally())
	table := exposition.NewTable()
	seen := make(map[string]bool)
	series := make(map[string]bool)
	for _, m := range stockStats(r, cursor{}).GetMetrics() {
		f, suffix, ok := table.Lookup(m.GetName())
		if !ok || !f.Forwarded {
			t.Errorf("%s is sent and not a forwarded family", m.GetName())
			continue
		}
		seen[f.Name] = true
		if !mayLeave(f.Name) {
			t.Errorf("%s is not in the explicit list", f.Name)
		}
		wantType := agentpb.Stats_Metric_COUNTER
		if f.Type == exposition.Gauge {
			wantType = agentpb.Stats_Metric_GAUGE
		}
		if m.GetType() != wantType {
			t.Errorf("%s is sent as %s, shown as %s", m.GetName(), m.GetType(), f.Type)
		}
		if (f.Type == exposition.Histogram) != (suffix != "") {
			t.Errorf("%s: suffix %q of a %s", m.GetName(), suffix, f.Type)
		}
		want := slices.Clone(f.Labels)
		if suffix == "_bucket" {
			want = append(want, "le")
		}
		slices.Sort(want)
		var got []string
		for _, l := range m.GetLabels() {
			got = append(got, l.GetName())
			if exposition.IsIdentityLabel(l.GetName()) || l.GetValue() == "" {
				t.Errorf("%s: label %v", m.GetName(), l)
			}
		}
		if !slices.Equal(want, got) {
			t.Errorf("%s has labels %q, the table says %q", m.GetName(), got, want)
		}
		key := fmt.Sprint(m.GetName(), m.GetLabels())
		if series[key] {
			t.Errorf("%s is sent twice", key)
		}
		series[key] = true
	}
	for _, name := range append(stockNames(), "agent_network_receive_bytes_total", "agent_open_sessions", "agent_session_duration_seconds") {
		if !seen[name] {
			t.Errorf("%s is in the list and was not sent, although it happened", name)
		}
	}
	for _, f := range table.Families() {
		if f.Forwarded && !mayLeave(f.Name) {
			t.Errorf("the table lets %s be forwarded, the list does not", f.Name)
		}
	}
}

// TestForwarded_OursIsTheSameList: a server of ours gets the same series, the
// counters as totals and the gauges as gauges.
func TestForwarded_OursIsTheSameList(t *testing.T) {
	r := recordOf(busyTally())
	stock := make(map[string]float64)
	for _, m := range stockStats(r, cursor{}).GetMetrics() {
		if m.GetValue() != 0 || m.GetType() == agentpb.Stats_Metric_GAUGE {
			var labels []string
			for _, l := range m.GetLabels() {
				labels = append(labels, l.GetName(), l.GetValue())
			}
			stock[m.GetName()+fmt.Sprint(labels)] = m.GetValue()
		}
	}
	w := windowMessage(r, r.End)
	ours := make(map[string]float64)
	for _, s := range append(slices.Clone(w.GetTotals()), w.GetGauges().GetSeries()...) {
		ours[s.GetName()+fmt.Sprint(s.GetLabels())] = s.GetValue()
	}
	for k, v := range stock {
		if o, ok := ours[k]; !ok || o != v {
			t.Errorf("%s is %v for a stock server, %v (%v) for ours", k, v, o, ok)
		}
	}
	if len(ours) != len(stock) {
		t.Errorf("%d series for ours, %d for a stock server", len(ours), len(stock))
	}
}
