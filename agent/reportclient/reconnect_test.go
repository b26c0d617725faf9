package reportclient

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"storj.io/drpc"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

// TestReconnect_DelayGrowsAndStartsOver looks at the moments of the attempts.
func TestReconnect_DelayGrowsAndStartsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiretest.NewService(wiretest.NewManifest())
		c := newClient(t, nil)
		began := time.Now()
		var attempts []time.Duration
		var conn *wiretest.Conn
		c.open = func(context.Context) (drpc.Conn, error) {
			attempts = append(attempts, time.Since(began))
			if len(attempts) != 13 {
				return nil, errors.New("no server")
			}
			conn = s.NewConn()
			return conn, nil
		}
		stop := start(t, c)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(attempts) != 13 || c.Health().DialErrors != 12 || !c.Health().Connected {
			t.Fatalf("%d attempts, health %+v", len(attempts), c.Health())
		}
		expected := 100 * time.Millisecond
		for i := 1; i < 13; i++ {
			delay := attempts[i] - attempts[i-1]
			if delay < expected/2 || delay > expected*3/2 {
				t.Errorf("delay %d is %s, not about %s", i, delay, expected)
			}
			expected = min(2*expected, 10*time.Second)
		}
		began, attempts = time.Now(), attempts[:13]
		_ = conn.Close()
		time.Sleep(time.Second)
		synctest.Wait()
		if first := attempts[13]; first > 150*time.Millisecond {
			t.Errorf("the first delay after a long session is %s", first)
		}
		stop()
	})
}

// TestReconnect_SessionsThatEndAtOnce: a server that takes sessions and drops
// them is dialled ever less often.
func TestReconnect_SessionsThatEndAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiretest.NewService(wiretest.NewManifest())
		wiretest.On(s, func(context.Context, *agentpb.UpdateStartupRequest) (*agentpb.Startup, error) {
			return nil, errors.New("version is no semver")
		})
		c := newClient(t, nil)
		direct(c, s)
		stop := start(t, c)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		// 7 delays up to 10 s, then 10 s each on average.
		if n := s.Sessions(); n < 50 || n > 130 {
			t.Errorf("%d sessions in 10 minutes", n)
		}
		stop()
	})
}

// TestReconnect_Jitter: agents that lost a server do not come back together.
func TestReconnect_Jitter(t *testing.T) {
	firsts := make(map[time.Duration]int)
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			s := wiretest.NewService(wiretest.NewManifest())
			c := newClient(t, nil)
			direct(c, s)
			stop := start(t, c)
			time.Sleep(time.Hour)
			synctest.Wait()
			// Cut at the next call, which is a report.
			cut := time.Time{}
			s.SetFault(func(call wiretest.Call) wiretest.Fault {
				if cut.IsZero() && call.Name == "UpdateStats" {
					cut = time.Now()
					return wiretest.CutBefore
				}
				return wiretest.None
			})
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			hello, report := time.Time{}, time.Time{}
			for _, call := range s.Calls("UpdateStats") {
				switch {
				case call.Session != 2:
				case call.Request.(*agentpb.UpdateStatsRequest).GetStats() == nil:
					hello = call.At
				case report.IsZero():
					report = call.At
				}
			}
			if hello.IsZero() || report.IsZero() {
				t.Fatal("no report after the reconnect")
			}
			wait := report.Sub(hello)
			if wait < callGap || wait > 31*time.Second {
				t.Errorf("the first report came %s after the hello", wait)
			}
			firsts[wait.Truncate(time.Second)]++
			stop()
		})
	}
	if len(firsts) < 5 {
		t.Errorf("the first reports after a reconnect came at %v", firsts)
	}
}

func scriptRan(t *stats.Tally) {
	t.ScriptRan(stats.ScriptRun{Stage: stats.StageCron, Status: stats.ScriptOK, Duration: time.Second})
}

// TestReconnect_QueuesSurvive: everything queued while the server was away, or
// cut in the middle, arrives, in order, and what was answered never twice.
func TestReconnect_QueuesSurvive(t *testing.T) {
	sizes := map[string]int{"UpdateLifecycle": 2, "BatchCreateLogs": 1, "ReportConnection": 3, "ScriptCompleted": 3}
	for broken := range sizes {
		for _, fault := range []wiretest.Fault{wiretest.CutBefore, wiretest.LoseReply} {
			inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
				done := false
				s.SetFault(func(call wiretest.Call) wiretest.Fault {
					if call.Name == broken && !done {
						done = true
						return fault
					}
					return wiretest.None
				})
				queueEverything(c)
				stop := start(t, c)
				advance(5 * time.Minute)
				stop()
				checkArrivals(t, s, sizes, broken)
			})
		}
	}
}

func queueEverything(c *Client) {
	c.SetLifecycle(agentpb.Lifecycle_STARTING)
	c.SetLifecycle(agentpb.Lifecycle_READY)
	for i := range 3 {
		c.Log([16]byte{1}, LogLine{Time: time.Now(), Level: agentpb.Log_INFO, Text: string(rune('a' + i))})
		c.ReportConnection(Connection{ID: [16]byte{byte(i)}, At: time.Now()})
		c.ReportTiming(&agentpb.Timing{ExitCode: int32(i)})
	}
}

// checkArrivals: all came, in order, and nothing came again but the call that
// was cut, and those that were under way in that very moment.
func checkArrivals(t *testing.T, s *wiretest.Service, sizes map[string]int, broken string) {
	t.Helper()
	for name, want := range sizes {
		var got []string
		calls := s.Calls(name)
		for _, call := range calls {
			text := call.Request.(interface{ String() string }).String()
			if len(got) == 0 || got[len(got)-1] != text {
				got = append(got, text)
			}
		}
		if len(got) != want || len(calls) > want+1 || name == broken && len(calls) != want+1 {
			t.Errorf("%s was cut: %s: %d calls, %d different: %v", broken, name, len(calls), len(got), got)
		}
	}
}

// TestReconnect_LostReplyIsTheSameWindow: the resend has the epoch, sequence and
// totals of the first, and the books count it once.
func TestReconnect_LostReplyIsTheSameWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiretest.NewService(wiretest.NewManifest())
		c := newClient(t, nil)
		direct(c, s)
		lost := false
		s.SetFault(func(call wiretest.Call) wiretest.Fault {
			if r, ok := call.Request.(*agentpb.UpdateStatsRequest); ok && r.GetStats() != nil && !lost {
				lost = true
				return wiretest.LoseReply
			}
			return wiretest.None
		})
		scriptRan(c.o.Tally)
		stop := start(t, c)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		stop()
		count := make(map[wiretest.WindowID]int)
		for _, r := range wiretest.Requests[*agentpb.UpdateStatsRequest](s) {
			for _, w := range r.GetWorktally().GetWindows() {
				count[wiretest.WindowID{Epoch: string(w.GetEpoch()), Sequence: w.GetSequence()}]++
			}
		}
		for id, n := range count {
			if n > 2 || (n == 2) != (id.Sequence == 1) {
				t.Errorf("windows sent: %v", count)
			}
		}
		if got := s.Ledger.Totals()["agent_scripts_executed_total\xffsuccess\xfftrue"]; got != 1 || s.Ledger.Epochs() != 1 {
			t.Errorf("the server counts %v runs in %d epochs", got, s.Ledger.Epochs())
		}
	})
}
