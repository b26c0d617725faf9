package agentapi

import (
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/appname"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// stockPath is the path of the bytes of stock agents, which do not tell how
// they travelled.
const stockPath = "tailnet"

// notMeasuredMS is the latency up to which a stock agent has measured nothing:
// it sends -0.001 itself, and peers that must not be dropped send 0.001.
const notMeasuredMS = 0.001

// stockReport translates the report of a stock agent (contract agent-api.md
// section 8.2).
func stockReport(c *checker, m *agentpb.Stats) *ledger.StockReport {
	rx, tx := c.delta(m.GetRxBytes()), c.delta(m.GetTxBytes())
	report := &ledger.StockReport{
		RxBytes: rx, TxBytes: tx,
		Added: []*worktallypb.Series{
			{Name: "agent_network_receive_bytes_total", Labels: []string{"path", stockPath}, Value: float64(rx)},
			{Name: "agent_network_transmit_bytes_total", Labels: []string{"path", stockPath}, Value: float64(tx)},
		},
		Gauges: &worktallypb.Gauges{
			ConnectionCount: m.GetConnectionCount(), ConnectionsByProto: m.GetConnectionsByProto(), Sessions: stockSessions(m),
		},
	}
	if ms := m.GetConnectionMedianLatencyMs(); ms > notMeasuredMS && !math.IsInf(ms, 0) {
		report.Gauges.MedianLatencySeconds = proto.Float64(ms / 1000)
		report.Gauges.MeasuredPeers = 1
	}
	var counters, gauges []*worktallypb.Series
	for _, metric := range m.GetMetrics() {
		s := &worktallypb.Series{Name: metric.GetName(), Value: metric.GetValue()}
		for _, l := range metric.GetLabels() {
			s.Labels = append(s.Labels, l.GetName(), l.GetValue())
		}
		switch metric.GetType() {
		case agentpb.Stats_Metric_COUNTER:
			counters = append(counters, s)
		case agentpb.Stats_Metric_GAUGE:
			gauges = append(gauges, s)
		default:
			c.rejected[reasonNoType]++
		}
	}
	report.Sent = sent(counters)
	report.Counters = c.keep(counters, exposition.Counter)
	report.Gauges.Series = c.keep(gauges, exposition.Gauge)
	c.cleanGauges(report.Gauges)
	return report
}

// maxSent bounds the name and labels of a counter that is to tell of restarts.
const maxSent = 512

// sent returns the counters that may tell of a restart: all that are small enough to
// be remembered.
func sent(counters []*worktallypb.Series) (small []*worktallypb.Series) {
	for _, s := range counters[:min(len(counters), maxSeries)] {
		size := len(s.GetName())
		for _, l := range s.GetLabels() {
			size += len(l)
		}
		if size <= maxSent {
			small = append(small, s)
		}
	}
	return small
}

// delta reads a difference; one that cannot be is none.
func (c *checker) delta(v int64) uint64 {
	if v < 0 || v > maxCount {
		c.rejected[reasonInvalidValue]++
		return 0
	}
	return uint64(v)
}

// stockSessions reads the map of newer agents, or the four fields of older ones.
func stockSessions(m *agentpb.Stats) []*worktallypb.OpenSessions {
	var open []*worktallypb.OpenSessions
	for name, n := range m.GetSessionCounts() {
		if n > 0 {
			open = append(open, &worktallypb.OpenSessions{AppName: name, Count: n})
		}
	}
	if len(open) > 0 {
		return open
	}
	return []*worktallypb.OpenSessions{
		{AppName: string(appname.VSCode), Count: m.GetSessionCountVscode()},
		{AppName: string(appname.JetBrains), Count: m.GetSessionCountJetbrains()},
		{AppName: string(appname.ReconnectingPTY), Count: m.GetSessionCountReconnectingPty()},
		{AppName: string(appname.SSH), Count: m.GetSessionCountSsh()},
	}
}
