package agent

import (
	"fmt"
	"net/http"
	"time"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/appname"
	"github.com/worktally/worktally/internal/buildinfo"
)

// MetricsHandler serves the agent's metrics page on every path. It may be used
// before, during and after Run.
func (a *Agent) MetricsHandler() http.Handler {
	return exposition.NewHandler(exposition.HandlerOptions{
		Page: a.page, Registry: a.registry, Log: a.log,
		OnCut: func() { a.tally.Drop(stats.DropScrapes, 1) },
		Ready: func() bool { return a.identity.Load() != nil },
	})
}

// page shows the tally as it is now.
func (a *Agent) page() exposition.Page {
	a.probeForPage()
	p := exposition.Page{Table: a.table, Sides: exposition.AgentPage}
	p.Rows = append(p.Rows, a.processRow())
	if id := a.identity.Load(); id != nil && id.names() != (exposition.Names{}) {
		p.Rows = append(p.Rows, a.tallyRow(*id))
	}
	return p
}

// adder adds samples of ours, which cannot be refused.
type adder struct{ b *exposition.Builder }

func (w adder) add(name string, v float64, labels ...exposition.Label) {
	if err := w.b.Add(name, v, labels...); err != nil {
		panic(fmt.Sprintf("BUG: agent: show %s: %v", name, err))
	}
}

func label(name, value string) exposition.Label { return exposition.Label{Name: name, Value: value} }

func (a *Agent) tallyRow(id identity) *exposition.Row {
	s := a.tally.Snapshot()
	w := adder{a.table.NewBuilder(id.names())}
	for _, total := range s.Totals {
		labels := make([]exposition.Label, len(total.Labels))
		for i, l := range total.Labels {
			labels[i] = exposition.Label(l)
		}
		// One from the disk that this version does not know, by its name or as it is
		// labelled, is kept for the server, and has no place on the page.
		_ = w.b.Add(total.Name, total.Value, labels...)
	}
	w.add("coderd_agentstats_rx_bytes", float64(s.RxBytes))
	w.add("coderd_agentstats_tx_bytes", float64(s.TxBytes))
	addGauges(w, s.Gauges)
	if s.WindowLength > 0 {
		w.add("agent_report_window_seconds", s.WindowLength.Seconds())
	}
	return w.b.Row()
}

func addGauges(w adder, g stats.Gauges) {
	w.add("coderd_agentstats_connection_count", float64(g.Connections))
	for family, n := range stats.ByGauge(g.Sessions) {
		w.add("coderd_agentstats_session_count_"+string(family), float64(n))
	}
	open := make(map[[2]string]int64)
	for _, o := range g.Sessions {
		open[[2]string{appname.Label(o.App), string(o.Family)}] += o.Count
	}
	for k, n := range open {
		w.add("agent_open_sessions", float64(n), label("app_name", k[0]), label("family", k[1]))
	}
	w.add("coderd_agentstats_currently_reachable_peers", float64(g.Peers.P2P), label("connection_type", "p2p"))
	w.add("coderd_agentstats_currently_reachable_peers", float64(g.Peers.DERP), label("connection_type", "derp"))
	w.add("agent_reachable_control_peers", float64(g.Peers.Control))
	if g.Peers.Measured > 0 {
		w.add("coderd_agentstats_connection_median_latency_seconds", g.Peers.MedianLatency.Seconds())
	}
	if g.Startup != nil {
		w.add("coderd_agentstats_startup_script_seconds", g.Startup.Duration.Seconds(), label("success", fmt.Sprint(g.Startup.Success)))
	}
}

// processRow shows the agent itself and how its reporting fares.
func (a *Agent) processRow() *exposition.Row {
	w := adder{a.table.NewBuilder(exposition.Names{})}
	build, h := buildinfo.Get(), a.client.Health()
	w.add("agent_build_info", 1, label("version", build.Version), label("revision", build.Revision), label("goversion", build.GoVersion))
	connected := 0.0
	if h.Connected {
		connected = 1
	}
	w.add("agent_connected", connected)
	w.add("agent_sessions_with_server_total", float64(h.Sessions))
	w.add("agent_dial_errors_total", float64(h.DialErrors))
	w.add("agent_reports_total", float64(h.ReportsOK), label("result", "ok"))
	w.add("agent_reports_total", float64(h.ReportsFailed), label("result", "failed"))
	w.add("agent_reports_total", float64(h.ReportsRefused), label("result", "refused"))
	w.add("agent_outbox_records", float64(h.Records))
	w.add("agent_outbox_bytes", float64(h.OutboxBytes))
	durable := 0.0
	if h.OutboxDurable {
		durable = 1
	}
	w.add("agent_outbox_durable", durable)
	w.add("agent_outbox_write_errors_total", float64(h.OutboxWriteErrors))
	w.add("agent_outbox_set_aside_total", float64(h.OutboxSetAside))
	addTime(w, "agent_report_last_success_timestamp_seconds", h.LastSuccess)
	addTime(w, "agent_outbox_oldest_timestamp_seconds", h.OldestRecord)
	return w.b.Row()
}

// addTime adds a moment; one that never was has no series.
func addTime(w adder, name string, t time.Time) {
	if !t.IsZero() {
		w.add(name, float64(t.UnixMilli())/1000)
	}
}
