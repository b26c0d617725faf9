package republish

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/wire/tailnetpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// The defects of the reference (contract metrics.md section 10) that the page
// could have.

// Defect 10.1: an agent with a session and no peer that answers shows its
// bytes and its session, and later none.
func TestDefect10_1_NoPeerHidesNothing(t *testing.T) {
	p := newPublisher(t, &store{}, nil)
	id := identity("box")
	p.Reported(id, time.Now(), outcome(id, 100, 1))
	want(t, p, map[string]string{
		"coderd_agentstats_rx_bytes{" + idLabels + "}":                "100",
		"coderd_agentstats_tx_bytes{" + idLabels + "}":                "200",
		"coderd_agentstats_session_count_ssh{" + idLabels + "}":       "1",
		"coderd_agentstats_connection_count{" + idLabels + "}":        "1",
		"coderd_agentstats_session_count_vscode{" + idLabels + "}":    "0",
		"coderd_agentstats_session_count_jetbrains{" + idLabels + "}": "0",
	})
	p.Reported(id, time.Now(), outcome(id, 0, 0))
	want(t, p, map[string]string{
		"coderd_agentstats_rx_bytes{" + idLabels + "}":          "0",
		"coderd_agentstats_session_count_ssh{" + idLabels + "}": "0",
	})
}

// Defect 10.2: series of agents that stopped reporting end by themselves.
func TestDefect10_2_SilentAgentsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, &store{}, nil)
		id := identity("box")
		p.Reported(id, time.Now(), outcome(id, 100, 1))
		time.Sleep(70*time.Second - time.Millisecond)
		if reported(t, p) == 0 {
			t.Error("the series ended before two intervals and 10 s")
		}
		time.Sleep(time.Millisecond)
		if n := reported(t, p); n != 0 {
			t.Errorf("%d samples of a silent agent", n)
		}
		if p.agents.len() != 0 {
			t.Error("the silent agent is kept")
		}
	})
}

// Defect 10.8: nothing measured is no series.
func TestDefect10_8_NoLatencySentinel(t *testing.T) {
	p := newPublisher(t, &store{}, nil)
	id := identity("box")
	name := "coderd_agentstats_connection_median_latency_seconds{" + idLabels + "}"
	o := outcome(id, 1, 1)
	p.Reported(id, time.Now(), o)
	if v, ok := samples(t, p)[name]; ok {
		t.Errorf("latency %s without a peer", v)
	}
	o.Latest.Gauges.MedianLatencySeconds = proto.Float64(0.25)
	p.Reported(id, time.Now(), o)
	want(t, p, map[string]string{name: "0.25"})
	p.Reported(id, time.Now(), outcome(id, 1, 1))
	if v, ok := samples(t, p)[name]; ok {
		t.Errorf("latency %s after the last peer left", v)
	}
}

// Defect 10.10: after a rename the old identity ends at once, and a report
// that was under way then does not bring it back.
func TestDefect10_10_RenamedIdentityEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, &store{}, nil)
		id, bystander := identity("box"), identity("other")
		known := time.Now()
		time.Sleep(time.Second)
		p.Reported(id, known, outcome(id, 1, 1))
		p.Reported(bystander, known, outcome(bystander, 1, 1))
		both := reported(t, p)
		p.WorkspaceChanged(id.Workspace.ID)
		if n := reported(t, p); n != both/2 {
			t.Errorf("%d samples after the rename, %d before", n, both)
		}
		time.Sleep(time.Second)
		p.Reported(id, known, outcome(id, 2, 1))
		if n := reported(t, p); n != both/2 {
			t.Error("a late report brought the old name back")
		}
		renamed := id
		renamed.Workspace.Name = "box-new"
		p.Reported(renamed, time.Now(), outcome(renamed, 3, 1))
		got := samples(t, p)
		if got["coderd_agentstats_rx_bytes{"+strings.Replace(idLabels, "box", "box-new", 1)+"}"] != "3" ||
			got["coderd_agentstats_rx_bytes{"+idLabels+"}"] != "" {
			t.Error("the new name is not alone")
		}
		if p.forget(time.Now().Add(changeMemory + time.Second)); len(p.changes) != 0 {
			t.Error("a change is remembered for ever")
		}
	})
}

// Defect 10.9: an agent measures a relay over IPv4 and IPv6, in no order; the value
// that is shown does not flip between them.
func TestDefect10_9_LatencyDoesNotFlip(t *testing.T) {
	node := &tailnetpb.Node{PreferredDerp: 1, DerpLatency: map[string]float64{"1-v4": 0.5, "1-v6": 0.25, "2-v4": 0.125, "2-v6": 0.75}}
	p := newPublisher(t, &store{statuses: []catalog.AgentStatus{status(identity("dev"))}}, func(o *Options) {
		o.Node = func(uuid.UUID) *tailnetpb.Node { return node }
	})
	const names = `coderd_agents_connection_latencies_seconds{agent_name="main",username="ann",workspace_name="dev",derp_region="Unnamed `
	for range 50 { // a map gives them in another order each time
		must(t, p.refreshStates(t.Context()))
		want(t, p, map[string]string{names + `1",preferred="true"}`: "0.25", names + `2",preferred="false"}`: "0.125"})
	}
}

// Defect 10.3: what is read once a minute adds up to exactly what was sent, at
// whatever moments windows end and reports arrive.
func TestDefect10_3_NoByteBetweenTwoWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := sqldb.Open(t.Context(), filepath.Join(t.TempDir(), "db"))
		must(t, err)
		defer db.Close()
		l, err := ledger.Open(t.Context(), db, ledger.Options{})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		p := newPublisher(t, &store{}, nil)
		id := identity("box")
		rng := rand.New(rand.NewPCG(1, 2))
		began, epoch := time.Now(), uuid.New()
		var sent, seen float64
		nextRead := began.Add(time.Minute)
		read := func(until time.Time) {
			for !nextRead.After(until) {
				time.Sleep(time.Until(nextRead))
				v, err := strconv.ParseFloat(samples(t, p)[rxBytes+"{"+idLabels+"}"], 64)
				must(t, err)
				seen += v
				nextRead = nextRead.Add(time.Minute)
			}
		}
		for sequence := uint64(1); time.Since(began) < 20*time.Minute; sequence++ {
			length := time.Duration(1+rng.IntN(30_000_000)) * time.Microsecond
			read(time.Now().Add(length))
			time.Sleep(time.Until(began.Add(time.Since(began) + length)))
			n := uint64(rng.IntN(1 << 20))
			sent += float64(n)
			out, err := l.Commit(ctx, ledger.Submission{
				WorkspaceID: id.Workspace.ID, AgentName: id.Agent.Name, OwnerID: id.Owner.ID, Arrival: time.Now(), Interval: 30 * time.Second,
				Windows: []*worktallypb.Window{{
					Epoch: epoch[:], Sequence: sequence, Length: durationpb.New(length), WindowRxBytes: n,
					Totals: []*worktallypb.Series{series("agent_network_receive_bytes_total", sent, "path", "p2p")}, Gauges: &worktallypb.Gauges{},
				}},
			})
			must(t, err)
			p.Reported(id, time.Now(), out)
		}
		read(nextRead) // the last windows
		if seen != sent {
			t.Errorf("%v bytes were seen, %v were sent", seen, sent)
		}
		cancel()
		must(t, <-ended)
	})
}

// Defect 10.4: a read that fails loses nothing: the page keeps what it had, and the
// next read shows everything.
func TestDefect10_4_FailedReadLosesNothing(t *testing.T) {
	const total = `worktally_workspace_bytes_total{direction="receive",path="p2p"}`
	received := func(v float64) []*worktallypb.Series {
		return []*worktallypb.Series{series("agent_network_receive_bytes_total", v, "path", "p2p")}
	}
	s := &store{totals: received(100)}
	p := newPublisher(t, s, nil)
	want(t, p, map[string]string{total: "100"})
	s.totals, s.err = received(250), errors.New("the database is away")
	id := identity("box")
	p.Reported(id, time.Now(), outcome(id, 150, 0))
	if p.refreshDeployment(t.Context()) == nil || p.refreshStates(t.Context()) == nil {
		t.Fatal("the read did not fail")
	}
	want(t, p, map[string]string{total: "100", rxBytes + "{" + idLabels + "}": "150"})
	s.err = nil
	must(t, p.refreshDeployment(t.Context()))
	want(t, p, map[string]string{total: "250", rxBytes + "{" + idLabels + "}": "150"})
}

// Defect 10.7: what another server shows is not shown here: an agent that moves is
// handed over, and comes back with its next session.
func TestDefect10_7_AnAgentIsOnOnePage(t *testing.T) {
	id := identity("box")
	there := status(id)
	there.State.Replica = "there"
	s := &store{statuses: []catalog.AgentStatus{there}}
	p := newPublisher(t, s, func(o *Options) { o.Replica = "here" })
	p.Reported(id, time.Now(), outcome(id, 1, 1))
	if n := reported(t, p); n != 0 {
		t.Errorf("%d samples of an agent that reports to another server", n)
	}
	p.AgentBegan(t.Context(), id, time.Now())
	p.Reported(id, time.Now(), outcome(id, 1, 1))
	if reported(t, p) == 0 {
		t.Error("the agent is here and not shown")
	}
	must(t, p.refreshStates(t.Context()))
	if n := reported(t, p); n != 0 {
		t.Errorf("%d samples after the agent went to another server", n)
	}
}

// Defect 10.7: a session that begins while the states are read is not taken for one
// that another server has, whatever was read before.
func TestDefect10_7_ASessionThatBeginsMeanwhile(t *testing.T) {
	id := identity("box")
	there := status(id)
	there.State.Replica = "there"
	s := &store{statuses: []catalog.AgentStatus{there}}
	var p *Publisher
	p = newPublisher(t, s, func(o *Options) {
		o.Replica = "here"
		o.Node = func(uuid.UUID) *tailnetpb.Node { // asked for while the states are read
			if p != nil {
				p.AgentBegan(t.Context(), id, time.Now())
				p.Reported(id, time.Now(), outcome(id, 1, 1))
			}
			return nil
		}
	})
	must(t, p.refreshStates(t.Context()))
	if reported(t, p) == 0 {
		t.Error("the agent is here and not shown")
	}
	p.Reported(id, time.Now(), outcome(id, 2, 1))
	if reported(t, p) == 0 {
		t.Error("the agent's next report is not shown")
	}
}
