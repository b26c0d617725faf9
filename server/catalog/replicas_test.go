package catalog

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestWatchReplicas_Nodes: the other servers show what one says of the nodes of its
// agents, so they hear of it at once.
func TestWatchReplicas_Nodes(t *testing.T) {
	f := newFixture(t, cluster.DSN(t))
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan struct{}, 10)
	var watching sync.WaitGroup
	watching.Go(func() {
		f.WatchReplicas(ctx, Watch{States: func() { heard <- struct{}{} }, Again: func() {}})
	})
	defer watching.Wait()
	defer cancel()
	await := func(what string) {
		t.Helper()
		select {
		case <-heard:
		case <-time.After(time.Minute):
			t.Fatalf("nobody heard of %s", what)
		}
	}
	await("the beginning")
	must(t, f.SetConnected(ctx, f.agent, "2.4", time.Now()))
	await("the session")
	must(t, f.SetTailnetNodes(ctx, map[uuid.UUID]string{f.agent: "nodeid:a"}))
	await("the node")
	if got := f.state().TailnetNode; got != "nodeid:a" {
		t.Errorf("the node is %q", got)
	}
}

// replica is another server on the database.
func (f *fixture) replica(name string) *Catalog {
	f.t.Helper()
	c, err := Open(f.t.Context(), f.db, Options{Replica: name})
	must(f.t, err)
	return c
}

// TestHeartbeat_TakesBack: the agent gave up a slow server ("a") and has a session with
// "b". What "a" writes of its session then is older than what "b" wrote, and comes later;
// whether or not it says that its session has ended, the agent lives with "b".
func TestHeartbeat_TakesBack(t *testing.T) {
	for name, ends := range map[string]bool{"the other server says that its session ended": true, "the other server dies": false} {
		t.Run(name, func(t *testing.T) {
			lasts := lostAfter + 2*time.Minute
			if ends {
				lasts = time.Minute
			}
			f := newFixture(t, cluster.DSN(t))
			ctx := t.Context()
			a, b := f.replica("a"), f.replica("b")
			began := time.Now()
			must(t, b.SetConnected(ctx, f.agent, "2.13", began.Add(time.Second)))
			must(t, a.SetConnected(ctx, f.agent, "2.13", began)) // begun before, written later
			if ends {
				must(t, a.SetDisconnected(ctx, []uuid.UUID{f.agent}, began.Add(2*time.Second)))
			}
			for at := time.Duration(0); at <= lasts; at += 15 * time.Second { // the session with b lives on
				must(t, b.Heartbeat(ctx, []uuid.UUID{f.agent}, began.Add(at)))
			}
			if s := f.state(); s.Replica != "b" || !s.DisconnectedAt.IsZero() {
				t.Errorf("the agent has lived with b for %s; it is said to be with %q, disconnected at %v", lasts, s.Replica, s.DisconnectedAt)
			}
		})
	}
}

// TestHeartbeat_LeavesOthersAlone: an old session that still answers takes no agent from
// the server that has its newest one.
func TestHeartbeat_LeavesOthersAlone(t *testing.T) {
	f := newFixture(t, cluster.DSN(t))
	ctx := t.Context()
	a, b := f.replica("a"), f.replica("b")
	began := time.Now()
	must(t, a.SetConnected(ctx, f.agent, "2.13", began))
	must(t, b.SetConnected(ctx, f.agent, "2.13", began.Add(time.Second)))
	for i := range 4 {
		at := began.Add(time.Duration(i) * 15 * time.Second)
		must(t, a.Heartbeat(ctx, []uuid.UUID{f.agent}, at))
		must(t, b.Heartbeat(ctx, []uuid.UUID{f.agent}, at))
		must(t, a.Heartbeat(ctx, []uuid.UUID{f.agent}, at))
	}
	if s := f.state(); s.Replica != "b" {
		t.Errorf("the agent is said to be with %q", s.Replica)
	}
}
