package reportclient

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/durable/faultfs"
	"github.com/worktally/worktally/internal/retry"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
	"github.com/worktally/worktally/wire/worktallypb"
)

// TestModel_NothingLostNothingTwice: whatever is cut, lost and refused in
// whatever order, the sum over the epochs that the server has taken in is what
// the tally counted, as soon as the server is well again.
func TestModel_NothingLostNothingTwice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 40).Draw(rt, "steps")
		var diff string
		synctest.Test(t, func(t *testing.T) { diff = runModel(t, steps) })
		if diff != "" {
			rt.Fatalf("totals (-tally +server):\n%s", diff)
		}
	})
}

// step is one thing that happens between two moments.
type step struct {
	Scripts, Bytes int
	Faults         []wiretest.Fault // of the next report calls
	Refusals       []bool           // of the next windows
	Silent         bool
	Slow           time.Duration // of every answer: windows are cut meanwhile
	Wait           time.Duration
}

func drawStep(t *rapid.T) step {
	fault := rapid.SampledFrom([]wiretest.Fault{wiretest.None, wiretest.None, wiretest.CutBefore, wiretest.LoseReply})
	return step{
		Scripts:  rapid.IntRange(0, 3).Draw(t, "scripts"),
		Bytes:    rapid.IntRange(0, 1000).Draw(t, "bytes"),
		Faults:   rapid.SliceOfN(fault, 0, 3).Draw(t, "faults"),
		Refusals: rapid.SliceOfN(rapid.Bool(), 0, 3).Draw(t, "refusals"),
		Silent:   rapid.IntRange(0, 9).Draw(t, "silent") == 0,
		Slow:     time.Duration(max(0, rapid.IntRange(-30, 29).Draw(t, "slow"))) * time.Second,
		Wait:     time.Duration(rapid.IntRange(0, 90_000).Draw(t, "wait")) * time.Millisecond,
	}
}

func runModel(t *testing.T, steps []step) (diff string) {
	s := wiretest.NewService(wiretest.NewManifest())
	c := newClient(t, nil)
	direct(c, s)
	var slow atomic.Int64
	wiretest.On(s, func(ctx context.Context, r *agentpb.UpdateStatsRequest) (*agentpb.UpdateStatsResponse, error) {
		if err := retry.Sleep(ctx, time.Duration(slow.Load())); err != nil {
			return nil, err
		}
		return s.Ledger.UpdateStats(ctx, r)
	})
	stop := start(t, c)
	defer stop()
	flow := c.o.Tally.OpenFlow(stats.PathTCP, "TCP")
	for _, st := range steps {
		s.SetFault(func(call wiretest.Call) wiretest.Fault {
			if call.Name != "UpdateStats" || len(st.Faults) == 0 {
				return wiretest.None
			}
			fault := st.Faults[0]
			st.Faults = st.Faults[1:]
			return fault
		})
		s.Ledger.SetRefuse(func(*worktallypb.Window) string {
			if len(st.Refusals) == 0 {
				return ""
			}
			refused := st.Refusals[0]
			st.Refusals = st.Refusals[1:]
			if refused {
				return "for the sake of it"
			}
			return ""
		})
		s.Ledger.SetSilent(st.Silent)
		slow.Store(int64(st.Slow))
		for range st.Scripts {
			scriptRan(c.o.Tally)
		}
		flow.Received(st.Bytes)
		advance(st.Wait)
	}
	s.SetFault(nil)
	s.Ledger.SetRefuse(nil)
	s.Ledger.SetSilent(false)
	slow.Store(0)
	advance(3 * time.Minute)
	if n := recordsOf(c); n > 1 {
		return fmt.Sprintf("%d records are left", n)
	}
	want := totalsOf(c.o.Tally)
	// The very refusals are counted after the fact, in the next window.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := c.FlushReport(ctx); err != nil {
		return err.Error()
	}
	return cmp.Diff(want, s.Ledger.Totals(), cmpopts.EquateApprox(0, 1e-6))
}

// TestModel_Stock: the same for a stock server. What it was told and could not
// answer it is told again, and nothing else is.
func TestModel_Stock(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 30).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			s := wiretest.NewService(wiretest.NewManifest())
			s.Ledger.SetStock(true)
			c := newClient(t, nil)
			direct(c, s)
			var sent, lost int64
			stop := start(t, c)
			flow := c.o.Tally.OpenFlow(stats.PathTCP, "TCP")
			for _, st := range steps {
				s.SetFault(func(call wiretest.Call) wiretest.Fault {
					r, ok := call.Request.(*agentpb.UpdateStatsRequest)
					if !ok || r.GetStats() == nil || len(st.Faults) == 0 {
						return wiretest.None
					}
					fault := st.Faults[0]
					st.Faults = st.Faults[1:]
					if fault == wiretest.LoseReply {
						lost += r.GetStats().GetRxBytes()
					}
					return fault
				})
				flow.Received(st.Bytes)
				sent += int64(st.Bytes)
				advance(st.Wait)
			}
			s.SetFault(nil)
			advance(3 * time.Minute)
			stop()
			if rx, _ := sumOf(s.Ledger.Reports()); rx != sent+lost {
				rt.Fatalf("%d bytes flowed, %d answers were lost, the server got %d", sent, lost, rx)
			}
		})
	})
}

// TestOutbox_Model compares the outbox with a plain list.
func TestOutbox_Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 5
		box := newOutbox(faultfs.New(), slog.New(slog.DiscardHandler), 0, time.Now)
		box.keep = limit
		var model []recordID
		newest := make(map[uuid.UUID]uint64) // the record of an epoch that has totals
		sequence := uint64(0)
		epoch := uuid.UUID{1}
		isTotals := func(id recordID) bool { return newest[id.Epoch] == id.Sequence }
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				sequence++
				dropped, _ := box.append(&record{Epoch: epoch, Sequence: sequence, Totals: []stats.Series{{Name: "x"}}}, position{})
				newest[epoch] = sequence
				model = append(model, recordID{epoch, sequence})
				expected := 0
				for len(model) > limit {
					i := slices.IndexFunc(model, func(id recordID) bool { return !isTotals(id) })
					if i < 0 {
						break
					}
					model = slices.Delete(model, i, i+1)
					expected++
				}
				if dropped != expected {
					t.Fatalf("dropped %d, not %d", dropped, expected)
				}
			},
			"epoch": func(*rapid.T) { epoch[1]++; sequence = 0 },
			"acknowledge": func(t *rapid.T) {
				ids := rapid.SliceOfN(rapid.Map(rapid.IntRange(0, 10), func(i int) recordID {
					if i < len(model) {
						return model[i]
					}
					return recordID{uuid.Max, 7}
				}), 0, 4).Draw(t, "ids")
				box.acknowledge(ids)
				model = slices.DeleteFunc(model, func(id recordID) bool { return slices.Contains(ids, id) })
			},
			"": func(t *rapid.T) {
				history := rapid.IntRange(0, 6).Draw(t, "history")
				var want, got []recordID
				waiting, _ := box.pending(history)
				for _, r := range waiting {
					got = append(got, r.id())
				}
				for _, id := range slices.Backward(model) {
					if isTotals(id) {
						want = append(want, id)
					}
				}
				for _, id := range model {
					if !isTotals(id) && history > 0 {
						want = append(want, id)
						history--
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("pending (-want +got):\n%s", diff)
				}
				if n, _, _ := box.state(); n != len(model) {
					t.Fatalf("%d records, not %d", n, len(model))
				}
			},
		})
	})
}
