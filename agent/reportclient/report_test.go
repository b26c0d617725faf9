package reportclient

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"storj.io/drpc"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
	"github.com/worktally/worktally/wire/worktallypb"
)

// inBubble runs a client against a service without a network, in fake time.
func inBubble(t *testing.T, change func(*Options), f func(t *testing.T, c *Client, s *wiretest.Service)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := wiretest.NewService(wiretest.NewManifest())
		c := newClient(t, change)
		direct(c, s)
		f(t, c, s)
	})
}

func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func recordsOf(c *Client) int {
	n, _, _ := c.reporter.outbox.state()
	return n
}

func totalsOf(tally *stats.Tally) map[string]float64 {
	m := make(map[string]float64)
	for _, s := range tally.Snapshot().Totals {
		if s.Value != 0 {
			m[s.Key()] = s.Value
		}
	}
	return m
}

func reportsOf(s *wiretest.Service) (hellos, reports []*agentpb.UpdateStatsRequest) {
	for _, r := range wiretest.Requests[*agentpb.UpdateStatsRequest](s) {
		if r.GetStats() == nil {
			hellos = append(hellos, r)
			continue
		}
		reports = append(reports, r)
	}
	return hellos, reports
}

func TestReport_FirstIsAHelloWithoutStats(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		s.Ledger.SetInterval(5 * time.Second)
		stop := start(t, c)
		advance(21 * time.Second)
		stop()
		calls := s.Calls("UpdateStats", "GetManifest", "UpdateStartup")
		var order []string
		for _, call := range calls[:3] {
			order = append(order, call.Name)
		}
		if diff := cmp.Diff([]string{"GetManifest", "UpdateStartup", "UpdateStats"}, order); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		hellos, reports := reportsOf(s)
		if len(hellos) != 1 || len(reports) != 4 {
			t.Fatalf("%d hellos and %d reports in 21 s", len(hellos), len(reports))
		}
		if e := hellos[0].GetWorktally(); e.GetProtocol() != 1 || len(e.GetEpoch()) != 16 || e.GetLastSequence() != 0 {
			t.Errorf("hello %v", e)
		}
		for i, r := range reports {
			w := r.GetWorktally().GetWindows()
			if len(w) != 1 || w[0].GetSequence() != uint64(i+1) || w[0].GetLength().AsDuration() != 5*time.Second || w[0].GetGauges().MedianLatencySeconds != nil {
				t.Errorf("report %d: %v", i, w)
			}
		}
	})
}

// TestReport_NewestFirstThenHistory: after a long outage one call has the newest
// totals, and the history follows in order, in bounded batches, not too fast.
func TestReport_NewestFirstThenHistory(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		s.SetFault(func(call wiretest.Call) wiretest.Fault {
			if call.Name == "UpdateStats" {
				return wiretest.CutBefore
			}
			return wiretest.None
		})
		stop := start(t, c)
		const outage = 12 * time.Hour
		for range 12 {
			scriptRan(c.o.Tally)
			advance(outage / 12)
		}
		s.SetFault(nil)
		advance(2*time.Minute + 5*time.Second)
		stop()
		_, reports := reportsOf(s)
		if len(reports) < 3 {
			t.Fatalf("%d reports", len(reports))
		}
		first := reports[0].GetWorktally().GetWindows()
		if len(first[0].GetTotals()) == 0 || first[0].GetSequence() < 1440 {
			t.Errorf("the first window of the first report is %d", first[0].GetSequence())
		}
		var history []uint64
		var moments []time.Time
		for _, call := range s.Calls("UpdateStats") {
			if call.Request.(*agentpb.UpdateStatsRequest).GetStats() != nil {
				moments = append(moments, call.At)
			}
		}
		for i, r := range reports {
			windows := r.GetWorktally().GetWindows()
			if len(windows) > maxHistory || proto.Size(r) > maxReportBytes+64<<10 {
				t.Errorf("report %d: %d windows, %d bytes", i, len(windows), proto.Size(r))
			}
			for _, w := range windows {
				if len(w.GetTotals()) == 0 {
					history = append(history, w.GetSequence())
				}
			}
			if i > 0 && moments[i].Sub(moments[i-1]) < callGap {
				t.Errorf("report %d came %s after the one before", i, moments[i].Sub(moments[i-1]))
			}
		}
		if len(history) < 1400 || !slices.IsSorted(history) {
			t.Errorf("%d windows of history, sorted: %v", len(history), slices.IsSorted(history))
		}
		if got := s.Ledger.Totals()["agent_scripts_executed_total\xffsuccess\xfftrue"]; got != 12 {
			t.Errorf("%v runs", got)
		}
		if n := recordsOf(c); n != 0 {
			t.Errorf("%d records are left", n)
		}
		for id, w := range s.Ledger.Windows() {
			if age := w.GetAge().AsDuration(); age < 0 || age > outage+time.Hour {
				t.Errorf("window %d is %s old", id.Sequence, age)
			}
		}
	})
}

// TestReport_NoAcknowledgement: a server that takes and says nothing is asked
// once a window, not in a loop.
func TestReport_NoAcknowledgement(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		s.Ledger.SetSilent(true)
		stop := start(t, c)
		advance(10*time.Minute + 20*time.Second)
		stop()
		if _, reports := reportsOf(s); len(reports) != 20 {
			t.Errorf("%d reports in 20 windows", len(reports))
		}
		if n, _, oldest := c.reporter.outbox.state(); n != 20 || time.Since(oldest) < 9*time.Minute {
			t.Errorf("%d records, oldest %s", n, oldest)
		}
	})
}

// TestReport_GarbageAcknowledgements are ignored and logged once a call.
func TestReport_GarbageAcknowledgements(t *testing.T) {
	var log logBuffer
	inBubble(t, func(o *Options) { o.Log = log.logger() }, func(t *testing.T, c *Client, s *wiretest.Service) {
		wiretest.On(s, func(_ context.Context, r *agentpb.UpdateStatsRequest) (*agentpb.UpdateStatsResponse, error) {
			resp := &agentpb.UpdateStatsResponse{Worktally: &worktallypb.ReportResponse{Protocol: 1}}
			for _, w := range r.GetWorktally().GetWindows() {
				for _, epoch := range [][]byte{nil, {1}, make([]byte, 16), w.GetEpoch()} {
					resp.Worktally.Acknowledged = append(resp.Worktally.Acknowledged, &worktallypb.Acknowledgement{Epoch: epoch, Sequence: math.MaxUint64})
				}
			}
			return resp, nil
		})
		stop := start(t, c)
		advance(2*time.Minute + 10*time.Second)
		stop()
		if n := recordsOf(c); n != 4 {
			t.Errorf("%d records are left", n)
		}
		if n := strings.Count(log.String(), "acknowledges windows that were not sent"); n != 4 {
			t.Errorf("%d log lines:\n%s", n, log.String())
		}
	})
}

// TestReport_ServerKnowsMore: an epoch of which the server knows more than the
// agent is left behind.
func TestReport_ServerKnowsMore(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		first := true
		wiretest.On(s, func(ctx context.Context, r *agentpb.UpdateStatsRequest) (*agentpb.UpdateStatsResponse, error) {
			resp, err := s.Ledger.UpdateStats(ctx, r)
			if r.GetStats() == nil && first {
				first = false
				resp.Worktally.LastSequence = 1000
			}
			return resp, err
		})
		scriptRan(c.o.Tally)
		stop := start(t, c)
		advance(2 * time.Minute)
		stop()
		hello := wiretest.Requests[*agentpb.UpdateStatsRequest](s)[0].GetWorktally().GetEpoch()
		for id := range s.Ledger.Windows() {
			if id.Epoch == string(hello) {
				t.Error("the epoch goes on")
			}
		}
		if diff := cmp.Diff(totalsOf(c.o.Tally), s.Ledger.Totals()); diff != "" {
			t.Errorf("totals (-tally +server):\n%s", diff)
		}
	})
}

// TestReport_AnotherIdentity: counts of another owner go into another epoch that
// begins where the one before ended.
func TestReport_AnotherIdentity(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		scriptRan(c.o.Tally)
		var conn *wiretest.Conn
		c.open = func(context.Context) (drpc.Conn, error) { conn = s.NewConn(); return conn, nil }
		stop := start(t, c)
		advance(time.Minute)
		renamed := wiretest.NewManifest()
		renamed.AgentName = "renamed"
		wiretest.On(s, func(context.Context, *agentpb.GetManifestRequest) (*agentpb.Manifest, error) { return renamed, nil })
		_ = conn.Close()
		advance(time.Minute)
		scriptRan(c.o.Tally)
		advance(2 * time.Minute)
		stop()
		names := make(map[string]string)
		for id, w := range s.Ledger.Windows() {
			if old, ok := names[id.Epoch]; ok && old != w.GetAgentName() {
				t.Error("an epoch has two owners")
			}
			names[id.Epoch] = w.GetAgentName()
		}
		if len(names) != 2 {
			t.Errorf("epochs %v", names)
		}
		if diff := cmp.Diff(totalsOf(c.o.Tally), s.Ledger.Totals()); diff != "" {
			t.Errorf("totals (-tally +server):\n%s", diff)
		}
	})
}

func TestReport_IntervalChangesAtRunTime(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		stop := start(t, c)
		advance(61 * time.Second)
		s.Ledger.SetInterval(10 * time.Second)
		advance(30 * time.Second) // the answer to the next report says so
		before := len(s.Ledger.Windows())
		advance(time.Minute)
		stop()
		if n := len(s.Ledger.Windows()) - before; before != 3 || n != 6 {
			t.Errorf("%d windows in 90 s, then %d in a minute", before, n)
		}
	})
}

// TestReport_AbsurdIntervals: the server cannot make the agent spin or sleep.
func TestReport_AbsurdIntervals(t *testing.T) {
	for _, tc := range []struct {
		name     string
		interval *durationpb.Duration
		reports  int // in 10 min
	}{
		{"none", nil, 20},
		{"zero", &durationpb.Duration{}, 20},
		{"negative", durationpb.New(-time.Second), 20},
		{"malformed", &durationpb.Duration{Seconds: 1, Nanos: -1}, 20},
		{"tiny", durationpb.New(time.Nanosecond), 599},
		{"more than time can hold", &durationpb.Duration{Seconds: 315_000_000_000}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
				wiretest.On(s, func(ctx context.Context, r *agentpb.UpdateStatsRequest) (*agentpb.UpdateStatsResponse, error) {
					resp, err := s.Ledger.UpdateStats(ctx, r)
					resp.ReportInterval = tc.interval
					return resp, err
				})
				stop := start(t, c)
				advance(10*time.Minute + 500*time.Millisecond)
				stop()
				if _, reports := reportsOf(s); len(reports) < tc.reports || len(reports) > tc.reports+1 {
					t.Errorf("%d reports in 10 minutes, not %d", len(reports), tc.reports)
				}
			})
		})
	}
	t.Run("another one each time", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
			n := 0
			wiretest.On(s, func(context.Context, *agentpb.UpdateStatsRequest) (*agentpb.UpdateStatsResponse, error) {
				n++
				return &agentpb.UpdateStatsResponse{
					ReportInterval: durationpb.New(time.Minute + time.Duration(n)*time.Millisecond),
					Worktally:      &worktallypb.ReportResponse{Protocol: 1}, // acknowledges nothing
				}, nil
			})
			stop := start(t, c)
			advance(5 * time.Minute)
			stop()
			if n > 10*60*5 {
				t.Errorf("%d calls in 5 minutes", n)
			}
		})
	})
}

func TestFlushReport(t *testing.T) {
	t.Run("before the first manifest", func(t *testing.T) {
		if err := newClient(t, nil).FlushReport(t.Context()); err == nil {
			t.Error("no error")
		}
	})
	for _, stock := range []bool{false, true} {
		t.Run(fmt.Sprintf("stock %v", stock), func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
				s.Ledger.SetStock(stock)
				stop := start(t, c)
				advance(time.Second)
				scriptRan(c.o.Tally)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				if err := c.FlushReport(ctx); err != nil {
					t.Error(err)
				}
				if stock && len(s.Ledger.Reports()) != 1 || !stock && len(s.Ledger.Windows()) != 1 {
					t.Error("no report")
				}
				stop()
			})
		})
	}
	t.Run("does not wait for its moment after a reconnect", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
			s.Ledger.SetInterval(time.Hour)
			var conn *wiretest.Conn
			c.open = func(context.Context) (drpc.Conn, error) { conn = s.NewConn(); return conn, nil }
			stop := start(t, c)
			advance(time.Minute)
			_ = conn.Close()
			advance(time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if err := c.FlushReport(ctx); err != nil {
				t.Error(err)
			}
			stop()
		})
	})
	t.Run("is cut again when the server refuses the epoch", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
			refusals := 1
			s.Ledger.SetRefuse(func(*worktallypb.Window) string {
				if refusals--; refusals >= 0 {
					return "closed_epoch"
				}
				return ""
			})
			stop := start(t, c)
			advance(time.Second)
			scriptRan(c.o.Tally)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if err := c.FlushReport(ctx); err != nil {
				t.Error(err)
			}
			if s.Ledger.Totals()["agent_scripts_executed_total\xffsuccess\xfftrue"] != 1 {
				t.Errorf("totals %v", s.Ledger.Totals())
			}
			if h := c.Health(); h.ReportsRefused != 1 {
				t.Errorf("health %+v", h)
			}
			stop()
		})
	})
	t.Run("a server that refuses everything, or answers nothing, costs no more than the limit", func(t *testing.T) {
		for _, deaf := range []bool{false, true} {
			inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
				s.Ledger.SetRefuse(func(*worktallypb.Window) string { return "never" })
				if deaf {
					wiretest.On(s, func(ctx context.Context, _ *agentpb.UpdateStatsRequest) (*agentpb.UpdateStatsResponse, error) {
						<-ctx.Done()
						return nil, ctx.Err()
					})
				}
				stop := start(t, c)
				advance(time.Second)
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				if err := c.FlushReport(ctx); err == nil || time.Since(began) > 2*time.Second {
					t.Errorf("error %v after %s", err, time.Since(began))
				}
				stop()
			})
		}
	})
}

// TestReport_SizeOfAWindow: a window of an open vocabulary stays far below
// what one call may carry.
func TestReport_SizeOfAWindow(t *testing.T) {
	tally := stats.New(stats.Options{})
	conn := tally.OpenConn()
	for i := range 200 {
		conn.OpenSession(stats.SessionFacts{Marker: strings.Repeat("ω", 60) + fmt.Sprint(i)}).Failed(stats.ErrStdinIOCopy)
	}
	w := tally.CutWindow()
	id := uuid.New()
	m := windowMessage(&record{Workspace: id, Epoch: id, Agent: "main", Sequence: 1, Totals: w.Totals, Gauges: w.Gauges, End: w.End}, w.End)
	if size := proto.Size(m); size > 64<<10 {
		t.Errorf("a window has %d bytes", size)
	}
}
