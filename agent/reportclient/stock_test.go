package reportclient

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"storj.io/drpc"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

func sumOf(reports []*agentpb.Stats) (rx, tx int64) {
	for _, r := range reports {
		rx, tx = rx+r.GetRxBytes(), tx+r.GetTxBytes()
	}
	return rx, tx
}

// TestStock_ReportShape compares one report with what was done.
func TestStock_ReportShape(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		s.Ledger.SetStock(true)
		stop := start(t, c)
		tally := c.o.Tally
		flow := tally.OpenFlow(stats.PathTCP, "TCP")
		flow.Received(1000)
		flow.Sent(30)
		tally.OpenFlow(stats.PathUnix, "unix").Sent(4)
		conn := tally.OpenConn()
		for _, marker := range []string{"vscode", "cursor", "", "my-tool"} {
			conn.OpenSession(stats.SessionFacts{Marker: marker})
		}
		tally.OpenTerminal()
		tally.SetPeers(stats.Peers{Measured: 2, P2P: 1, DERP: 1, MedianLatency: 1500 * time.Microsecond})
		advance(31 * time.Second)
		stop()
		reports := s.Ledger.Reports()
		if len(reports) != 1 {
			t.Fatalf("%d reports", len(reports))
		}
		got := reports[0]
		got.Metrics = nil
		want := &agentpb.Stats{
			ConnectionsByProto: map[string]int64{"TCP": 1, "unix": 1}, ConnectionCount: 2, ConnectionMedianLatencyMs: 1.5,
			RxBytes: 1000, TxBytes: 34, SessionCountVscode: 2, SessionCountSsh: 2, SessionCountReconnectingPty: 1,
			SessionCounts: map[string]int64{"vscode": 1, "cursor": 1, "ssh": 1, "my_tool": 1, "reconnecting_pty": 1},
		}
		if diff := cmp.Diff(want.String(), got.String()); diff != "" {
			t.Errorf("report (-want +got):\n%s", diff)
		}
	})
}

// TestStock_NothingIsLostWhenACallFails: the bytes of all windows that no call
// delivered are in the next one that is answered.
func TestStock_NothingIsLostWhenACallFails(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		s.Ledger.SetStock(true)
		random := rand.New(rand.NewPCG(1, 2)) // the same run every time
		s.SetFault(func(call wiretest.Call) wiretest.Fault {
			r, ok := call.Request.(*agentpb.UpdateStatsRequest)
			if ok && r.GetStats() != nil && random.IntN(2) == 0 {
				return wiretest.CutBefore
			}
			return wiretest.None
		})
		stop := start(t, c)
		flow := c.o.Tally.OpenFlow(stats.PathTCP, "TCP")
		for i := range 200 {
			flow.Received(i)
			flow.Sent(2 * i)
			advance(17 * time.Second)
		}
		s.SetFault(nil)
		advance(2 * time.Minute)
		stop()
		rx, tx := sumOf(s.Ledger.Reports())
		if rx != 199*100 || tx != 2*199*100 {
			t.Errorf("the server got %d and %d bytes", rx, tx)
		}
		merged := false
		for _, r := range s.Ledger.Reports() {
			merged = merged || r.GetRxBytes() > 600
			if r.GetConnectionMedianLatencyMs() != 0.001 {
				t.Errorf("latency %v", r.GetConnectionMedianLatencyMs())
			}
		}
		if !merged {
			t.Error("no report has the bytes of several windows")
		}
	})
}

// TestReport_ModeIsDecidedPerSession: the server is replaced by one of the other
// kind and back.
func TestReport_ModeIsDecidedPerSession(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		var conn *wiretest.Conn
		c.open = func(context.Context) (drpc.Conn, error) { conn = s.NewConn(); return conn, nil }
		stop := start(t, c)
		flow := c.o.Tally.OpenFlow(stats.PathTCP, "TCP")
		for phase := range 4 {
			s.Ledger.SetStock(phase%2 == 1)
			if phase > 0 {
				_ = conn.Close()
			}
			for range 4 {
				flow.Received(10)
				advance(30 * time.Second)
			}
		}
		advance(5 * time.Second)
		stop()
		if rx, _ := sumOf(s.Ledger.Reports()); rx != 160 {
			t.Errorf("the stock server, which knows nothing of the other, got %d bytes", rx)
		}
		for _, r := range s.Ledger.Reports() {
			if r.GetRxBytes() < 0 {
				t.Errorf("a report of %d bytes", r.GetRxBytes())
			}
		}
		if got := s.Ledger.Totals()["agent_network_receive_bytes_total\xffpath\xfftcp"]; got < 100 || got > 120 {
			t.Errorf("the other, which was there for the first 120 bytes, got %v", got)
		}
		for _, r := range wiretest.Requests[*agentpb.UpdateStatsRequest](s) {
			if ext := r.GetWorktally(); r.GetStats() != nil && (ext == nil) != (r.GetStats().GetConnectionMedianLatencyMs() > 0) {
				t.Error("a report is of neither kind")
			}
		}
	})
}

// TestStock_OnlyHistoryIsLeft: records whose totals another server has are of no
// use to a stock server.
func TestStock_OnlyHistoryIsLeft(t *testing.T) {
	c := newClient(t, nil)
	r := c.reporter
	r.outbox.append(&record{Epoch: r.epoch, Sequence: 1}, position{})
	if more, err := r.deliverStock(t.Context(), nil); err != nil || more {
		t.Errorf("%v, %v", more, err)
	}
	if n := recordsOf(c); n != 0 {
		t.Errorf("%d records are left", n)
	}
}
