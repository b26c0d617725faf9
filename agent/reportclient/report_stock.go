package reportclient

import (
	"context"
	"time"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/appname"
	"github.com/worktally/worktally/wire/agentpb"
)

// cursor is what a stock server has taken in: the byte totals at the last report
// that it answered. It speaks in differences, so this is all it can know.
type cursor struct{ rx, tx uint64 }

// noPeerLatency is what a stock server is told when no peer answered: it drops
// an agent's whole row unless the latency is positive.
const noPeerLatencyMS = 0.001

// deliverStock sends the newest totals as one merged report: at least once, because a
// stock server cannot tell a resend. History means nothing to it, and is given up in
// batches, because all of it at once may be large; more says that some is left.
func (r *reporter) deliverStock(ctx context.Context, api agentpb.DRPCAgentClient) (more bool, err error) {
	newest, records := r.pendingStock()
	if newest == nil {
		return r.forget(records), nil // a server has taken the totals in
	}
	rx, tx := byteTotals(newest.Totals)
	r.mu.Lock()
	known := r.stock
	r.mu.Unlock()
	if _, err := r.call(ctx, api, &agentpb.UpdateStatsRequest{Stats: stockStats(newest, cursor{rx - known.rx, tx - known.tx})}); err != nil {
		return false, err
	}
	r.mu.Lock()
	r.stock = cursor{rx, tx}
	r.mu.Unlock()
	r.noteDelivered(newest, false)
	r.succeeded()
	more = r.forget(records)
	r.checkpoint(true) // this server cannot tell a resend
	return more, nil
}

// pendingStock returns the newest record with totals of the epoch, nil if there is none,
// and what a stock server makes useless once it has taken that in: all but the totals of
// other epochs, which wait for a server of ours.
func (r *reporter) pendingStock() (newest *record, useless []*record) {
	r.mu.Lock()
	epoch := r.epoch
	r.mu.Unlock()
	pending, _ := r.outbox.pending(maxHistory)
	for _, record := range pending {
		if record.Totals == nil || record.Epoch == epoch {
			useless = append(useless, record)
		}
	}
	if len(useless) > 0 && useless[0].Totals != nil {
		newest = useless[0]
	}
	return newest, useless
}

// forget removes the records, and says whether there may be more.
func (r *reporter) forget(records []*record) (more bool) {
	ids := make([]recordID, len(records))
	for i, record := range records {
		ids[i] = record.id()
	}
	r.outbox.acknowledge(ids)
	return len(records) >= maxHistory
}

func byteTotals(totals []stats.Series) (rx, tx uint64) {
	for _, s := range totals {
		switch s.Name {
		case "agent_network_receive_bytes_total":
			rx += uint64(s.Value)
		case "agent_network_transmit_bytes_total":
			tx += uint64(s.Value)
		}
	}
	return rx, tx
}

// stockStats writes the newest record with the bytes since the last answered
// report (contract agent-api.md section 8.2).
func stockStats(r *record, since cursor) *agentpb.Stats {
	byGauge := stats.ByGauge(r.Gauges.Sessions)
	m := &agentpb.Stats{
		ConnectionsByProto: r.Gauges.ConnectionsByProto, ConnectionCount: r.Gauges.Connections,
		ConnectionMedianLatencyMs: noPeerLatencyMS,
		RxBytes:                   int64(since.rx), TxBytes: int64(since.tx),
		SessionCountVscode:          byGauge[appname.VSCode],
		SessionCountJetbrains:       byGauge[appname.JetBrains],
		SessionCountReconnectingPty: byGauge[appname.ReconnectingPTY],
		SessionCountSsh:             byGauge[appname.SSH],
		SessionCounts:               make(map[string]int64, len(r.Gauges.Sessions)),
	}
	if p := r.Gauges.Peers; p.Measured > 0 {
		m.ConnectionMedianLatencyMs = float64(p.MedianLatency) / float64(time.Millisecond)
	}
	for _, o := range r.Gauges.Sessions {
		m.SessionCounts[o.App] = o.Count
	}
	for _, s := range r.Totals {
		m.Metrics = append(m.Metrics, metricMessage(s, agentpb.Stats_Metric_COUNTER))
	}
	for _, s := range forwardedGauges(r) {
		m.Metrics = append(m.Metrics, metricMessage(s, agentpb.Stats_Metric_GAUGE))
	}
	return m
}

func metricMessage(s stats.Series, typ agentpb.Stats_Metric_Type) *agentpb.Stats_Metric {
	m := &agentpb.Stats_Metric{Name: s.Name, Type: typ, Value: s.Value}
	for _, l := range s.Labels {
		m.Labels = append(m.Labels, &agentpb.Stats_Metric_Label{Name: l.Name, Value: l.Value})
	}
	return m
}

// forwardedGauges is the explicit list of gauges that leave the agent. A page's
// other gauges never do: a stock server would answer 500 for everybody.
func forwardedGauges(r *record) []stats.Series {
	list := []stats.Series{
		{Name: "coderd_agentstats_currently_reachable_peers", Labels: []stats.Label{{Name: "connection_type", Value: "derp"}}, Value: float64(r.Gauges.Peers.DERP)},
		{Name: "coderd_agentstats_currently_reachable_peers", Labels: []stats.Label{{Name: "connection_type", Value: "p2p"}}, Value: float64(r.Gauges.Peers.P2P)},
		{Name: "agent_reachable_control_peers", Value: float64(r.Gauges.Peers.Control)},
		{Name: "agent_report_window_seconds", Value: r.Length.Seconds()},
	}
	if s := r.Gauges.Startup; s != nil {
		success := "false"
		if s.Success {
			success = "true"
		}
		list = append(list, stats.Series{
			Name: "coderd_agentstats_startup_script_seconds", Labels: []stats.Label{{Name: "success", Value: success}}, Value: s.Duration.Seconds(),
		})
	}
	open := make(map[stats.OpenSessions]int64)
	for _, o := range r.Gauges.Sessions {
		open[stats.OpenSessions{App: appname.Label(o.App), Family: o.Family}] += o.Count
	}
	for k, n := range open {
		list = append(list, stats.Series{
			Name: "agent_open_sessions", Labels: []stats.Label{{Name: "app_name", Value: k.App}, {Name: "family", Value: string(k.Family)}}, Value: float64(n),
		})
	}
	return list
}
