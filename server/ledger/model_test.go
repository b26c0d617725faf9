package ledger

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/worktally/worktally/wire/worktallypb"
)

// modelEpoch is the life of one state directory: what the agent counted, and
// every window it cut.
type modelEpoch struct {
	id      uuid.UUID
	counted []float64
	windows []*worktallypb.Window
	seen    bool         // a window with totals reached the server
	acked   int          // windows before this one are out of the outbox
	sent    map[int]bool // windows that the server took
}

// modelAgent is one agent that keeps its windows until they are acknowledged.
type modelAgent struct {
	workspace uuid.UUID
	epochs    []*modelEpoch
	arrival   time.Time
}

func (a *modelAgent) current() *modelEpoch { return a.epochs[len(a.epochs)-1] }

// pending says whether an older epoch still has unacknowledged windows.
func (a *modelAgent) pending() bool {
	for _, e := range a.epochs[:len(a.epochs)-1] {
		if e.acked < len(e.windows) {
			return true
		}
	}
	return false
}

// want is the sum over epochs of the newest totals that were acknowledged.
func (a *modelAgent) want() [2]float64 {
	var sum [2]float64
	for _, e := range a.epochs {
		if e.acked > 0 {
			for i, v := range e.windows[e.acked-1].Totals {
				sum[i] += v.Value
			}
		}
	}
	return sum
}

// missing is how many windows were passed over and never came.
func (a *modelAgent) missing() (n uint64) {
	for _, e := range a.epochs {
		for i := range e.acked {
			if !e.sent[i] {
				n++
			}
		}
	}
	return n
}

// model drives agents against ledgers that share one database.
type model struct {
	t       *rapid.T
	ledgers []*running
	agents  []*modelAgent
}

func (m *model) agent() *modelAgent { return rapid.SampledFrom(m.agents).Draw(m.t, "agent") }
func (m *model) ledger() *running   { return rapid.SampledFrom(m.ledgers).Draw(m.t, "ledger") }

// cut counts something and cuts a window.
func (m *model) cut(t *rapid.T) {
	m.t = t
	a := m.agent()
	e := a.current()
	for i := range e.counted {
		e.counted[i] += float64(rapid.IntRange(0, 5).Draw(t, "count"))
	}
	w := window(e.id, uint64(len(e.windows)+1), e.counted...)
	w.WorkspaceId = a.workspace[:]
	e.windows = append(e.windows, w)
}

// fresh starts a new epoch.
func (m *model) fresh(t *rapid.T) {
	m.t = t
	a := m.agent()
	a.epochs = append(a.epochs, &modelEpoch{id: uuid.New(), counted: make([]float64, 2), sent: map[int]bool{}})
}

// report sends windows of one epoch, the newest first, perhaps with old ones
// that were acknowledged before, perhaps several times, at once, to any ledger.
// The acknowledgement may get lost.
func (m *model) report(t *rapid.T) {
	m.t = t
	a := m.agent()
	e := rapid.SampledFrom(a.epochs).Draw(t, "epoch")
	if len(e.windows) == 0 {
		t.Skip("nothing to report")
	}
	newest := rapid.IntRange(1, len(e.windows)).Draw(t, "newest")
	oldest := rapid.IntRange(max(0, newest-4), newest-1).Draw(t, "oldest")
	s := submission(a.tick())
	s.WorkspaceID = a.workspace
	for i := newest - 1; i >= oldest; i-- {
		s.Windows = append(s.Windows, e.windows[i])
	}
	s.NoOlderEpochPending = e == a.current() && !a.pending()
	var closed atomic.Bool
	var group sync.WaitGroup
	for range rapid.IntRange(1, 3).Draw(t, "copies") {
		l := m.ledger()
		group.Go(func() {
			out, err := l.Commit(context.Background(), s)
			if err != nil {
				panic(err)
			}
			for _, ack := range out.Acknowledged {
				// A closed epoch is refused only after all of it was acknowledged.
				if r := ack.GetRefused(); r != "" && (r != RefusedClosedEpoch || e == a.current() || e.acked < len(e.windows)) {
					panic(fmt.Sprintf("window %d refused: %s", ack.GetSequence(), r))
				} else if r != "" {
					closed.Store(true)
				}
			}
		})
	}
	group.Wait()
	e.acked = max(e.acked, newest)
	if !closed.Load() {
		for i := oldest; i < newest; i++ {
			e.sent[i] = true
		}
	}
}

// tick returns a time after the one before.
func (a *modelAgent) tick() time.Time {
	a.arrival = a.arrival.Add(7 * time.Second)
	return a.arrival
}

// check compares the database with the model.
func (m *model) check(t *rapid.T) {
	l := m.ledgers[0]
	got := map[uuid.UUID][2]float64{}
	holes := map[uuid.UUID]uint64{}
	if err := l.Load(context.Background(), func(latest Latest) error {
		holes[latest.WorkspaceID] = latest.MissingWindows
		var v [2]float64
		for i, s := range latest.Totals {
			v[i] = s.Value
		}
		got[latest.WorkspaceID] = v
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var all [2]float64
	var missing uint64
	for _, a := range m.agents {
		want := a.want()
		all[0], all[1] = all[0]+want[0], all[1]+want[1]
		missing += a.missing()
		if holes[a.workspace] != a.missing() {
			t.Fatalf("agent %s misses %d windows, want %d", a.workspace, holes[a.workspace], a.missing())
		}
		if got[a.workspace] != want {
			t.Fatalf("agent %s has %v, want %v", a.workspace, got[a.workspace], want)
		}
	}
	totals, err := l.DeploymentTotals(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if n := l.total(SkippedWindows) - l.total(LateWindows); n != float64(missing) {
		t.Fatalf("%v windows are missing, want %d", n, missing)
	}
	totals = slices.DeleteFunc(totals, isOwn)
	var sum [2]float64
	for i, s := range totals {
		sum[i] = s.Value
	}
	if sum != all {
		t.Fatalf("the deployment has %v, want %v", sum, all)
	}
}

// TestLedger_ModelTotalsAreExact lets random agents report to two ledgers on one
// database, with resends, reorders, copies in flight at once, new epochs,
// restarts and clocks that are changed, and compares every total with what was counted.
func TestLedger_ModelTotalsAreExact(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		n := 0
		rapid.Check(t, func(rt *rapid.T) {
			n++
			dsn := dsn
			if filepath.IsAbs(dsn) {
				dsn = fmt.Sprintf("%s.%d", dsn, n)
			} else {
				dsn = cluster.DSN(t)
			}
			m := &model{ledgers: []*running{start(t, dsn, Options{}), start(t, dsn, Options{})}}
			for range 2 {
				m.agents = append(m.agents, &modelAgent{workspace: uuid.New(), arrival: t0,
					epochs: []*modelEpoch{{id: uuid.New(), counted: make([]float64, 2), sent: map[int]bool{}}}})
			}
			defer func() {
				for _, l := range m.ledgers {
					l.close()
				}
			}()
			rt.Repeat(map[string]func(*rapid.T){
				"":       m.check,
				"cut":    m.cut,
				"cut2":   m.cut,
				"report": m.report,
				"again":  m.report,
				"fresh":  m.fresh,
				"clock": func(rt *rapid.T) {
					m.t = rt
					a := m.agent()
					a.arrival = a.arrival.Add(rapid.SampledFrom(jumps()).Draw(rt, "jump"))
				},
				"restart": func(rt *rapid.T) {
					i := rapid.IntRange(0, 1).Draw(rt, "which")
					m.ledgers[i].close()
					m.ledgers[i] = start(t, dsn, Options{})
				},
			})
		})
	})
}
