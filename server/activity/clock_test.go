package activity

import (
	"testing"
	"time"
)

// TestActivity_ClockIsSetBack: what people did by a clock that was ahead does not
// count until that time has come, and what they do now counts.
func TestActivity_ClockIsSetBack(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, 24 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			onBoth(t, func(w *world) {
				ahead, base := jump, halfPast()
				wall := func() time.Time { return base.Add(ahead) }
				a := w.open()
				a.o.Now = wall
				a.Seen(w.ann.ID)
				w.session(w.bob.ID, wall().Add(-2*time.Minute), wall())
				w.want(a, wall(), 2, 2)
				ahead = 0
				w.want(a, wall().Add(time.Minute), 0, 2)
				a.Seen(w.ann.ID)
				w.want(a, wall().Add(2*time.Minute), 1, 2)
				w.session(w.bob.ID, wall(), wall().Add(time.Minute))
				w.want(a, wall().Add(4*time.Minute), 2, 2)
				w.want(w.open(), wall().Add(5*time.Minute), 2, 2) // a restart
				w.want(a, wall().Add(2*time.Hour), 0, 2)
			})
		})
	}
}

// halfPast is a moment near now in the middle of an hour: history is by hours, and
// minutes that a clock ahead marked in this very hour stay.
func halfPast() time.Time { return time.Now().Truncate(time.Hour).Add(30 * time.Minute).Round(0) }

// TestActivity_ClockJumpsAhead: who is active goes on to be noted.
func TestActivity_ClockJumpsAhead(t *testing.T) {
	onBoth(t, func(w *world) {
		ahead, base := time.Duration(0), halfPast()
		wall := func() time.Time { return base.Add(ahead) }
		a := w.open()
		a.o.Now = wall
		a.Seen(w.ann.ID)
		w.want(a, wall(), 1, 1)
		ahead = 24 * time.Hour
		w.want(a, wall(), 0, 1)
		a.Seen(w.ann.ID)
		w.session(w.bob.ID, wall().Add(-2*time.Minute), wall())
		w.want(a, wall().Add(time.Minute), 2, 2)
	})
}
