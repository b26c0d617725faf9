package agentapi_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/agentapi"
	"github.com/worktally/worktally/wire/agentpb"
)

// status is what the page says about the world's agent.
func (w *world) status() string {
	for name := range w.page() {
		if strings.HasPrefix(name, "coderd_agents_connections{") && strings.Contains(name, `workspace_name="box"`) {
			_, rest, _ := strings.Cut(name, `status="`)
			status, _, _ := strings.Cut(rest, `"`)
			return status
		}
	}
	return ""
}

// TestLiveness_SilentPeerIsClosed takes the ten seconds that yamux waits for an
// answer. (Its timers are shared by all sessions of a process, which the fake
// clock of synctest forbids.)
func TestLiveness_SilentPeerIsClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{options: func(o *agentapi.Options) { o.PingInterval = 50 * time.Millisecond }})
	w.publisher.AgentChanged()
	poll(t, "a new agent is connecting", func() bool { return w.status() == "connecting" })
	ws, _, err := w.socket(w.token, "?version=2.6")
	must(t, err)
	defer ws.CloseNow()
	poll(t, "connected", func() bool { return w.status() == "connected" })
	for { // it reads and never answers
		if _, _, err := ws.Read(t.Context()); err != nil {
			break
		}
	}
	poll(t, "disconnected", func() bool { return w.status() == "disconnected" })
	if s := w.state(); s.DisconnectedAt.IsZero() || s.FirstConnectedAt.IsZero() || w.agents.Connected(w.agent.ID) {
		t.Errorf("state %+v", s)
	}
}

func TestLiveness_AnsweringPeerStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{options: func(o *agentapi.Options) { o.PingInterval = 10 * time.Millisecond }})
	p := w.dial()
	first := time.Now()
	for range 3 {
		poll(t, "another heartbeat", func() bool { return w.state().LastConnectedAt.After(first) })
		first = time.Now()
	}
	if _, err := p.GetManifest(t.Context(), &agentpb.GetManifestRequest{}); err != nil {
		t.Fatal(err)
	}
}

// recordingCatalog notes heartbeats and disconnects, and fails on demand.
type recordingCatalog struct {
	agentapi.Catalog
	mu       sync.Mutex
	beats    []int
	gone     []int
	failing  bool
	failures int
}

func (c *recordingCatalog) written(list *[]int) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(*list)
}

func (c *recordingCatalog) Heartbeat(ctx context.Context, ids []uuid.UUID, at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing {
		c.failures++
		return errors.New("no database")
	}
	if len(ids) > 0 {
		c.beats = append(c.beats, len(ids))
	}
	return c.Catalog.Heartbeat(ctx, ids, at)
}

func (c *recordingCatalog) SetDisconnected(ctx context.Context, ids []uuid.UUID, at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(ids) > 0 {
		c.gone = append(c.gone, len(ids))
	}
	return c.Catalog.SetDisconnected(ctx, ids, at)
}

func (c *recordingCatalog) fail(yes bool) {
	c.mu.Lock()
	c.failing = yes
	c.mu.Unlock()
}

// awaitFailures waits until something could not be written that was known now: a failure
// may be of what was taken in hand before.
func (c *recordingCatalog) awaitFailures(t *testing.T) {
	t.Helper()
	failures := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.failures
	}
	before := failures()
	poll(t, "two failures", func() bool { return failures() > before+1 })
}

func TestLiveness_HeartbeatsAreBatched(t *testing.T) {
	t.Parallel()
	rec := &recordingCatalog{failing: true}
	w := newWorld(t, setup{options: func(o *agentapi.Options) { rec.Catalog, o.Catalog = o.Catalog, rec }})
	const agents = 20
	peers := []*peer{w.dial()}
	for i := range agents - 1 {
		token, _ := w.other(fmt.Sprintf("box%d", i))
		peers = append(peers, w.dialAs(token, "?version=2.6"))
	}
	for _, p := range peers { // their first heartbeat is noted
		_, err := p.GetManifest(t.Context(), &agentpb.GetManifestRequest{})
		must(t, err)
	}
	// What cannot be written is written later, all at once.
	rec.awaitFailures(t)
	rec.fail(false)
	poll(t, "the heartbeats", func() bool { return sum(rec.written(&rec.beats)) >= agents })
	if beats := rec.written(&rec.beats); len(beats) != 1 || beats[0] != agents {
		t.Errorf("heartbeats of %d agents were written as %v", agents, beats)
	}
	// An agent that is back before its going was written never went.
	again := w.dial()
	_, err := again.GetManifest(t.Context(), &agentpb.GetManifestRequest{})
	must(t, err)
	rec.fail(true)
	for _, p := range peers {
		must(t, p.Close())
	}
	poll(t, "the ends of the sessions", func() bool { return w.page()["worktally_agent_sessions"] == "1" })
	rec.awaitFailures(t)
	rec.fail(false)
	poll(t, "the disconnects", func() bool { return sum(rec.written(&rec.gone)) >= agents-1 })
	if gone := rec.written(&rec.gone); len(gone) > 2 || sum(gone) != agents-1 || !w.state().DisconnectedAt.IsZero() {
		t.Errorf("disconnects were written as %v, and of the one that came back at %v", gone, w.state().DisconnectedAt)
	}
}

func sum(list []int) (n int) {
	for _, v := range list {
		n += v
	}
	return n
}

func TestLiveness_RestartShowsDisconnectedUntilBack(t *testing.T) {
	path := t.TempDir() + "/test.db"
	w := newWorld(t, setup{path: path})
	p := w.dial()
	_, err := p.UpdateStats(t.Context(), stockStats(5, 6))
	must(t, err)
	poll(t, "connected", func() bool { return w.status() == "connected" })
	first := w.state().FirstConnectedAt
	before := w.page()
	// As if the process had been killed: nobody writes down who is away.
	must(t, w.catalog.Heartbeat(t.Context(), []uuid.UUID{w.agent.ID}, time.Now()))
	w.stop()
	w2 := newWorld(t, setup{path: path})
	must(t, w2.catalog.Heartbeat(t.Context(), []uuid.UUID{w.agent.ID}, time.Now().Add(-time.Minute)))
	poll(t, "disconnected", func() bool { return w2.status() == "disconnected" })
	if !w2.state().FirstConnectedAt.Equal(first) {
		t.Error("the first connect is forgotten")
	}
	// The reports are still there.
	for name, v := range before {
		if strings.HasPrefix(name, "coderd_agentstats_") || strings.HasPrefix(name, "agent_") {
			if got := w2.page()[name]; got != v {
				t.Errorf("%s is %q after the restart, was %q", name, got, v)
			}
		}
	}
	w2.dial()
	poll(t, "connected", func() bool { return w2.status() == "connected" })
}
