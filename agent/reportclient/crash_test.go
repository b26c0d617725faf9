package reportclient

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
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

// machine is an agent's machine: its disk outlives the agent.
type machine struct {
	t       *testing.T
	disk    *faultfs.FS
	service *wiretest.Service
	rng     *rand.Rand
	clock   atomic.Int64 // how wrong the wall clock is, as a Duration
	before  func(context.Context)
	dir     func(agent string) string // nil: one for all
	closed  sync.Map                  // epochs that the server refuses from now on

	manifest *agentpb.Manifest
	client   *Client
	flow     *stats.Flow
	stop     func()
}

func newMachine(t *testing.T, seed uint64) *machine {
	manifest := wiretest.NewManifest()
	return &machine{
		t: t, disk: faultfs.New(), manifest: manifest, service: wiretest.NewService(manifest), rng: rand.New(rand.NewPCG(seed, 0)),
	}
}

// boot starts an agent that remembers who it was.
func (m *machine) boot() {
	c := newClient(m.t, func(o *Options) {
		o.OutboxDir = func(_ uuid.UUID, agent string) string {
			if m.dir != nil {
				return m.dir(agent)
			}
			return "/state"
		}
		o.Now = func() time.Time { return time.Now().Add(time.Duration(m.clock.Load())) }
		o.BeforeWindow = m.before
	})
	c.reporter.outbox.fs = m.disk
	c.reporter.outbox.lock = func(string) (io.Closer, error) { return io.NopCloser(nil), nil }
	direct(c, m.service)
	c.Recall(uuid.UUID(m.manifest.GetWorkspaceId()), m.manifest.GetAgentName())
	m.client, m.stop = c, start(m.t, c)
	m.flow = c.o.Tally.OpenFlow(stats.PathTCP, "TCP")
}

// kill ends the agent as SIGKILL does: what it writes from now on is not there. With
// power the machine goes down too.
func (m *machine) kill(power bool) {
	var after *faultfs.FS
	if power {
		after = m.disk.Crash(m.rng)
	} else {
		after = faultfs.New()
		for name, b := range m.disk.Files() {
			after.Set(name, b)
		}
	}
	m.service.SetFault(func(wiretest.Call) wiretest.Fault { return wiretest.CutBefore })
	m.stop()
	m.service.SetFault(nil)
	m.disk = after
}

func (m *machine) counted() map[string]float64 { return totalsOf(m.client.o.Tally) }

// settle lets everything be delivered, and returns what differs.
func (m *machine) settle() string {
	m.service.SetFault(nil)
	advance(5 * time.Minute)
	want := m.counted()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := m.client.FlushReport(ctx); err != nil {
		return err.Error()
	}
	return cmp.Diff(want, m.service.Ledger.Totals(), cmpopts.EquateApprox(0, 1e-6))
}

// close makes the server refuse the epoch in use, as it does when another process has
// reported under the agent's name and had nothing older pending.
func (m *machine) close() {
	r := m.client.reporter
	r.mu.Lock()
	m.closed.Store(r.epoch, true)
	r.mu.Unlock()
	m.service.Ledger.SetRefuse(func(w *worktallypb.Window) string {
		if _, closed := m.closed.Load(uuid.UUID(w.GetEpoch())); closed {
			return "closed_epoch"
		}
		return ""
	})
}

// storeSlowly lets the server take 15 s for the next window.
func (m *machine) storeSlowly() {
	slow := true
	m.service.Ledger.SetRefuse(func(*worktallypb.Window) string {
		if slow {
			slow = false
			time.Sleep(15 * time.Second)
		}
		return ""
	})
}

type crashStep struct {
	Scripts, Bytes int
	Fault          wiretest.Fault
	Wait           time.Duration
	What           string
}

func drawCrashStep(t *rapid.T) crashStep {
	return crashStep{
		Scripts: rapid.IntRange(0, 3).Draw(t, "scripts"),
		Bytes:   rapid.IntRange(0, 1000).Draw(t, "bytes"),
		Fault:   rapid.SampledFrom([]wiretest.Fault{wiretest.None, wiretest.None, wiretest.CutBefore, wiretest.LoseReply}).Draw(t, "fault"),
		Wait:    time.Duration(rapid.IntRange(0, 90_000).Draw(t, "wait")) * time.Millisecond,
		What:    rapid.SampledFrom([]string{"", "", "kill", "power", "stop", "clock", "close", "crash"}).Draw(t, "what"),
	}
}

func (m *machine) step(st crashStep) {
	if st.Fault != wiretest.None {
		m.service.SetFault(func(call wiretest.Call) wiretest.Fault {
			if call.Name == "UpdateStats" {
				return st.Fault
			}
			return wiretest.None
		})
	} else {
		m.service.SetFault(nil)
	}
	for range st.Scripts {
		scriptRan(m.client.o.Tally)
	}
	m.flow.Received(st.Bytes)
	advance(st.Wait)
	m.service.SetFault(nil)
}

// TestCrash_WhatWasCountedFiveSecondsAgoIsThere: however often the agent is killed
// or the machine goes down, the next agent has what was counted 5 s before, and in
// the end the server has exactly what the agents had.
func TestCrash_WhatWasCountedFiveSecondsAgoIsThere(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(drawCrashStep), 1, 30).Draw(rt, "steps")
		seed := rapid.Uint64().Draw(rt, "seed")
		var failure string
		synctest.Test(t, func(t *testing.T) { failure = runCrashes(newMachine(t, seed), steps) })
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

const (
	// promised is how old what was counted must be to be kept.
	promised = 5 * time.Second
	// diskTime is what the disk may take for it.
	diskTime = 400 * time.Millisecond
)

func runCrashes(m *machine, steps []crashStep) string {
	m.before = func(ctx context.Context) { _ = retry.Sleep(ctx, 5*time.Second) } // a peer does not answer
	m.boot()
	defer func() { m.stop() }()
	for i, st := range steps {
		m.step(st)
		switch st.What {
		case "kill", "power":
			safe := m.counted()
			advance(promised - diskTime)
			scriptRan(m.client.o.Tally)
			m.flow.Received(1)
			most := m.counted()
			m.kill(st.What == "power")
			m.boot()
			if diff := between(safe, m.counted(), most); diff != "" {
				return fmt.Sprintf("step %d, %s: %s", i, st.What, diff)
			}
		case "stop":
			scriptRan(m.client.o.Tally)
			m.stop()
			want := m.counted()
			m.boot()
			if diff := cmp.Diff(want, m.counted(), cmpopts.EquateApprox(0, 1e-6)); diff != "" {
				return fmt.Sprintf("step %d, after a stop (-want +got):\n%s", i, diff)
			}
		case "crash": // at any moment: what it costs is not known, but nothing comes twice
			m.kill(m.rng.IntN(2) == 0)
			m.boot()
		case "close":
			m.close()
		case "clock":
			m.clock.Add(int64([]time.Duration{time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour}[m.rng.IntN(4)]))
		}
	}
	return m.settle()
}

// between says what is wrong if got is not between least and most.
func between(least, got, most map[string]float64) string {
	for k, v := range least {
		if got[k] < v-1e-6 {
			return fmt.Sprintf("%q is %v, and was %v", k, got[k], v)
		}
	}
	for k, v := range got {
		if v > most[k]+1e-6 {
			return fmt.Sprintf("%q is %v, and was only %v", k, v, most[k])
		}
	}
	return ""
}

// received is how many bytes the server has.
func (m *machine) received() float64 {
	return sumNamed(m.service.Ledger.Totals(), "agent_network_receive_bytes_total")
}

func sumNamed(totals map[string]float64, name string) (sum float64) {
	for k, v := range totals {
		if len(k) >= len(name) && k[:len(name)] == name {
			sum += v
		}
	}
	return sum
}
