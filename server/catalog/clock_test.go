package catalog

import (
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestCatalog_EndSessions: a server that starts holds no session, whatever the times
// say that its killed predecessor has left.
func TestCatalog_EndSessions(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		must(t, f.EndSessions(ctx))
		if s := f.state(); !s.DisconnectedAt.IsZero() || !s.FirstConnectedAt.IsZero() {
			t.Errorf("an agent that never came: %+v", s)
		}
		last := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Microsecond) // and then the clock was set back
		must(t, f.SetConnected(ctx, f.agent, "2.6", last))
		must(t, f.EndSessions(ctx))
		if s := f.state(); !s.DisconnectedAt.Equal(last) {
			t.Errorf("disconnected %v, want %v", s.DisconnectedAt, last)
		}
		now := time.Now().UTC().Truncate(time.Microsecond)
		must(t, f.Heartbeat(ctx, []uuid.UUID{f.agent}, now))
		if s := f.state(); !s.LastConnectedAt.Equal(now) || !s.DisconnectedAt.IsZero() {
			t.Errorf("after a heartbeat: %+v", s)
		}
		// The sessions of another server are not this one's to end.
		other, err := Open(ctx, f.db, Options{Replica: "other"})
		must(t, err)
		must(t, other.EndSessions(ctx))
		if s := f.state(); !s.DisconnectedAt.IsZero() {
			t.Errorf("another server ended a session: %+v", s)
		}
	})
}

// TestCatalog_TotalsOfTheDeletedAfterTheClockWasSetBack: what was deleted in a future
// that is none any more is not shown until that has come.
func TestCatalog_TotalsOfTheDeletedAfterTheClockWasSetBack(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		real := f.now
		f.now = func() time.Time { return real().Add(24 * time.Hour) }
		_, err := f.PutBuild(ctx, Build{WorkspaceID: f.ws.ID, ID: uuid.New(), Number: 1, Transition: TransitionStart, Status: StatusSucceeded})
		must(t, err)
		if got := f.totals(f.now()); len(got) != 1 {
			t.Fatalf("%d totals", len(got))
		}
		_, err = f.DeleteWorkspace(ctx, f.ws.ID)
		must(t, err)
		if got := f.totals(f.now()); len(got) != 1 {
			t.Errorf("%d totals right after the deletion", len(got))
		}
		f.now = real
		if got := f.totals(f.now()); len(got) != 0 {
			t.Errorf("%d totals of a workspace that is gone", len(got))
		}
		if n, err := f.TidyBuilds(ctx, f.now()); err != nil || n != 1 {
			t.Errorf("tidied %d, %v", n, err)
		}
	})
}
