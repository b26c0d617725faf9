package agentapi_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/worktally/worktally/server/agentapi"
)

// TestClock_HeartbeatsAreWrittenAnew: the clock is changed between two heartbeats,
// an hour apart here, and those that were written seem to be of another time. They
// are written again at once.
func TestClock_HeartbeatsAreWrittenAnew(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	wall := func() time.Time { return time.Now().Round(0).Add(time.Duration(ahead.Load())) }
	w := newWorld(t, setup{options: func(o *agentapi.Options) { o.Now, o.PingInterval = wall, time.Hour }})
	p := w.dial()
	for _, jump := range []time.Duration{time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour} {
		ahead.Store(int64(jump))
		poll(t, "a heartbeat by the changed clock", func() bool {
			age := wall().Sub(w.state().LastConnectedAt)
			return age.Abs() < time.Minute // it is written once
		})
		_, err := p.UpdateStats(t.Context(), stockStats(5, 6))
		must(t, err)
		if at := w.latest()[0].Arrival; wall().Sub(at).Abs() > time.Minute {
			t.Errorf("a report arrived at %v, and it is %v", at, wall())
		}
	}
	if !w.state().DisconnectedAt.IsZero() {
		t.Error("the agent was disconnected")
	}
}
