package main

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// history is what an agent has counted: the windows of one epoch. It belongs to
// one goroutine.
type history struct {
	workspace uuid.UUID
	epoch     uuid.UUID
	sequence  uint64
}

// hello asks what the server knows of the epoch, as the first call of a session.
func (h *history) hello() *agentpb.UpdateStatsRequest {
	return &agentpb.UpdateStatsRequest{Worktally: &worktallypb.ReportRequest{Protocol: 1, Epoch: h.epoch[:], LastSequence: h.sequence}}
}

// next is the report of the next window: 3 KB, 60 series, as a busy agent sends.
// All counters have grown.
func (h *history) next() *agentpb.UpdateStatsRequest {
	h.sequence++
	n := float64(h.sequence)
	w := &worktallypb.Window{
		Sequence: h.sequence, WorkspaceId: h.workspace[:], AgentName: agentName, Epoch: h.epoch[:],
		Length: durationpb.New(30 * time.Second), Age: durationpb.New(0),
		WindowRxBytes: 123_456, WindowTxBytes: 7_890,
		Gauges: &worktallypb.Gauges{
			ConnectionCount: 3, ConnectionsByProto: map[string]int64{"TCP": 3}, MedianLatencySeconds: proto.Float64(0.0123), MeasuredPeers: 1,
			Sessions: []*worktallypb.OpenSessions{{AppName: "vscode", Family: "vscode", Count: 2}, {AppName: "ssh", Family: "ssh", Count: 1}},
			Series: []*worktallypb.Series{
				one("agent_report_window_seconds", 30),
				one("agent_open_sessions", 2, "app_name", "vscode", "family", "vscode"),
				one("agent_open_sessions", 1, "app_name", "ssh", "family", "ssh"),
				one("coderd_agentstats_currently_reachable_peers", 1, "connection_type", "p2p"),
				one("coderd_agentstats_startup_script_seconds", 12.5, "success", "true"),
			},
		},
	}
	for _, path := range []string{"derp", "p2p", "tcp"} {
		w.Totals = append(w.Totals,
			one("agent_network_receive_bytes_total", 1234*n, "path", path), one("agent_network_transmit_bytes_total", 567*n, "path", path))
	}
	for _, path := range []string{"derp", "p2p"} {
		w.Totals = append(w.Totals,
			one("agent_network_receive_packets_total", 12*n, "path", path), one("agent_network_transmit_packets_total", 7*n, "path", path))
	}
	for _, via := range []string{"forward", "ssh", "terminal"} {
		w.Totals = append(w.Totals, one("agent_sessions_opened_total", 2*n, "via", via))
	}
	for _, family := range []string{"ssh", "vscode"} {
		w.Totals = append(w.Totals, one("agent_sessions_ended_total", n, "family", family, "reason", "exited"))
		w.Totals = append(w.Totals, histogram("agent_session_duration_seconds", n, "family", family,
			"1", "10", "60", "300", "900", "3600", "14400", "43200", "86400", "+Inf")...)
	}
	w.Totals = append(w.Totals, histogram("agent_peer_round_trip_seconds", n, "path", "p2p",
		"0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "+Inf")...)
	w.Totals = append(w.Totals, one("agent_scripts_executed_total", n, "success", "true"),
		one("agent_script_runs_total", n, "stage", "start", "status", "ok"), one("agent_script_runs_total", n, "stage", "cron", "status", "ok"))
	return &agentpb.UpdateStatsRequest{Stats: &agentpb.Stats{}, Worktally: &worktallypb.ReportRequest{
		Protocol: 1, Epoch: h.epoch[:], LastSequence: h.sequence, Windows: []*worktallypb.Window{w}, NoOlderEpochPending: true,
	}}
}

// acknowledged says whether the server has committed the newest window.
func (h *history) acknowledged(resp *agentpb.UpdateStatsResponse) error {
	for _, a := range resp.GetWorktally().GetAcknowledged() {
		if a.GetSequence() == h.sequence && a.GetRefused() == "" {
			return nil
		}
	}
	return fmt.Errorf("window %d was not acknowledged: %v", h.sequence, resp)
}

func one(name string, v float64, labels ...string) *worktallypb.Series {
	return &worktallypb.Series{Name: name, Labels: labels, Value: v}
}

func histogram(name string, n float64, label, value string, bounds ...string) []*worktallypb.Series {
	var parts []*worktallypb.Series
	for i, le := range bounds {
		labels := []string{label, value, "le", le}
		if label > "le" {
			labels = []string{"le", le, label, value}
		}
		parts = append(parts, one(name+"_bucket", n*float64(i+1), labels...))
	}
	return append(parts, one(name+"_count", n*float64(len(bounds)), label, value), one(name+"_sum", 3.5*n, label, value))
}
