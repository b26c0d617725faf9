package republish

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/wire/agentpb"
)

// moving is an agent that reported to server a and begins a session with b.
type moving struct {
	*store
	id   catalog.Identity // as it is known to b when the session begins
	o    ledger.Outcome   // of the report to a
	a, b *Publisher
}

func newMoving(t *testing.T, edit func(*Options)) *moving {
	id := identity("box")
	here := status(id)
	here.State.Replica = "a"
	id.Agent.State.Replica = "a"
	m := &moving{store: &store{statuses: []catalog.AgentStatus{here}}, id: id, o: outcome(id, 1, 1)}
	m.a = newPublisher(t, m.store, func(o *Options) { o.Replica = "a" })
	m.b = newPublisher(t, m.store, func(o *Options) {
		o.Replica = "b"
		if edit != nil {
			edit(o)
		}
	})
	m.latest = []ledger.Latest{m.o.Latest}
	m.a.Reported(id, time.Now(), m.o)
	return m
}

// move begins the session.
func (m *moving) move(t *testing.T) {
	known := time.Now()
	m.set(func() { m.statuses[0].State.Replica = "b" })
	m.b.AgentBegan(t.Context(), m.id, known)
}

// TestMoves_NothingIsHidden: an agent that moves is on the page of the server that it
// moves to at once, and its next report may take half a minute.
func TestMoves_NothingIsHidden(t *testing.T) {
	m := newMoving(t, nil)
	before := samples(t, m.a)[rxBytes+"{"+idLabels+"}"]
	m.move(t)
	for range 2 {
		want(t, m.b, map[string]string{rxBytes + "{" + idLabels + "}": before, "coderd_agentstats_session_count_ssh{" + idLabels + "}": "1"})
		must(t, m.a.refreshStates(t.Context()))
		must(t, m.b.refreshStates(t.Context()))
		if n := reported(t, m.a); n != 0 {
			t.Errorf("%d samples on the server that it left", n)
		}
	}
	// What a lost answer was about is sent again, and is no newer.
	m.o.Newest = false
	m.o.Latest.Totals = append(m.o.Latest.Totals, series("agent_scripts_executed_total", 9, "success", "true"))
	m.b.Reported(m.id, time.Now(), m.o)
	want(t, m.b, map[string]string{`agent_scripts_executed_total{agent_name="main",username="ann",workspace_name="box",template_name="go",success="true"}`: "9"})
	// And back.
	m.id.Agent.State.Replica = "b"
	m.set(func() { m.statuses[0].State.Replica = "a" })
	m.a.AgentBegan(t.Context(), m.id, time.Now())
	must(t, m.a.refreshStates(t.Context()))
	must(t, m.b.refreshStates(t.Context()))
	if reported(t, m.a) == 0 || reported(t, m.b) != 0 {
		t.Errorf("%d and %d samples after it came back", reported(t, m.a), reported(t, m.b))
	}
}

// TestMoves_WhatHadEnded: nor does a move bring back what has ended, and what has not
// moved is not read.
func TestMoves_WhatHadEnded(t *testing.T) {
	for _, c := range []struct {
		name  string
		loads int
		edit  func(*moving)
	}{
		{"its lifecycle", 0, func(m *moving) { m.id.Agent.State.Lifecycle = agentpb.Lifecycle_OFF }},
		{"it was here", 0, func(m *moving) { m.id.Agent.State.Replica = "b" }},
		{"it was nowhere", 0, func(m *moving) { m.id.Agent.State.Replica = "" }},
		{"it never reported", 1, func(m *moving) { m.latest = nil }},
		{"it was silent", 1, func(m *moving) { time.Sleep(70 * time.Second) }},
		{"it said so meanwhile", 1, func(m *moving) { time.Sleep(time.Second); m.b.AgentOff(m.id.Workspace.ID, m.id.Agent.Name) }},
		{"its workspace changed", 1, func(m *moving) { time.Sleep(time.Second); m.b.WorkspaceChanged(m.id.Workspace.ID) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMoving(t, nil)
				known := time.Now()
				c.edit(m)
				m.b.AgentBegan(t.Context(), m.id, known)
				if n := reported(t, m.b); n != 0 || m.loads != c.loads {
					t.Errorf("%d samples after %d readings, want 0 after %d", n, m.loads, c.loads)
				}
			})
		})
	}
}

// TestMoves_NotLonger: what is taken over ends when it would have ended.
func TestMoves_NotLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMoving(t, nil)
		time.Sleep(60 * time.Second)
		m.move(t)
		time.Sleep(10*time.Second - time.Millisecond)
		if reported(t, m.b) == 0 {
			t.Error("the series ended before two intervals and 10 s")
		}
		time.Sleep(time.Millisecond)
		if n := reported(t, m.b); n != 0 {
			t.Errorf("%d samples of a silent agent", n)
		}
	})
}

// TestMoves_TheOnlyServer reads nothing when a session begins.
func TestMoves_TheOnlyServer(t *testing.T) {
	s := &store{}
	p := newPublisher(t, s, nil)
	p.AgentBegan(t.Context(), identity("box"), time.Now())
	if s.loads != 0 {
		t.Errorf("%d readings", s.loads)
	}
}

// slowLoad is a ledger that answers for one agent when the test says so.
type slowLoad struct {
	*store
	wait func(context.Context) error
}

func (s *slowLoad) LoadOne(ctx context.Context, workspaceID uuid.UUID, agentName string) (ledger.Latest, bool, error) {
	l, known, err := s.store.LoadOne(ctx, workspaceID, agentName)
	return l, known, errors.Join(err, s.wait(ctx))
}

// TestMoves_AReportIsFaster: what was read replaces no report that came meanwhile.
func TestMoves_AReportIsFaster(t *testing.T) {
	var m *moving
	slow := &slowLoad{wait: func(context.Context) error {
		m.b.Reported(m.id, time.Now(), outcome(m.id, 77, 1))
		return nil
	}}
	m = newMoving(t, func(o *Options) { slow.store = o.Ledger.(*store); o.Ledger = slow })
	m.move(t)
	want(t, m.b, map[string]string{rxBytes + "{" + idLabels + "}": "77"})
}

// TestMoves_OnAgain: what was read of an agent that went on to another server
// meanwhile is not shown.
func TestMoves_OnAgain(t *testing.T) {
	var m *moving
	slow := &slowLoad{wait: func(ctx context.Context) error {
		m.set(func() { m.statuses[0].State.Replica = "c" })
		return m.b.refreshStates(ctx)
	}}
	m = newMoving(t, func(o *Options) { slow.store = o.Ledger.(*store); o.Ledger = slow })
	m.move(t)
	if n := reported(t, m.b); n != 0 {
		t.Errorf("%d samples of an agent that is elsewhere", n)
	}
}

// TestMoves_ReadThatHangs: the session waits for a few seconds, and its next report is
// shown.
func TestMoves_ReadThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		slow := &slowLoad{wait: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		m := newMoving(t, func(o *Options) {
			slow.store = o.Ledger.(*store)
			o.Ledger, o.Log = slow, slog.New(slog.NewTextHandler(&log, nil))
		})
		began := time.Now()
		m.move(t)
		if d := time.Since(began); d != takeOverTimeout {
			t.Errorf("the session waited for %s", d)
		}
		if reported(t, m.b) != 0 || strings.Count(log.String(), "level=WARN") != 1 {
			t.Errorf("%d samples, log %s", reported(t, m.b), log.String())
		}
		m.b.Reported(m.id, time.Now(), outcome(m.id, 5, 1))
		want(t, m.b, map[string]string{rxBytes + "{" + idLabels + "}": "5"})
	})
}
