package agentscripts

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRunner_CronFollowsAChangedClock: a schedule that waited for the moment it had
// worked out would be late by as much as the clock jumped ahead, and silent for as
// long as it was set back.
func TestRunner_CronFollowsAChangedClock(t *testing.T) {
	for _, tc := range []struct {
		name, spec string
		before     time.Duration // until the clock is changed
		jump       time.Duration
		wait       time.Duration // until the script has run again
	}{
		{"a day back", "0 */5 * * * *", 7 * time.Minute, -24 * time.Hour, 5 * time.Minute},
		{"an hour back", "0 */5 * * * *", 7 * time.Minute, -time.Hour, 5 * time.Minute},
		{"an hour ahead, over the moment", "0 50 * * * *", 52 * time.Minute, time.Hour, clockCheck},
		{"a day ahead, over the moment", "0 0 3 * * *", 4 * time.Hour, 24 * time.Hour, clockCheck},
		{"an hour ahead, before the moment", "0 0 3 * * *", 4 * time.Hour, 22 * time.Hour, time.Hour + time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			logDir, dataDir := t.TempDir(), t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				held := &heldCommands{release: make(chan struct{})}
				close(held.release)
				var ahead atomic.Int64
				r, _ := newRunner(t, func(o *Options) {
					o.Commands, o.LogDir, o.DataDir = held, logDir, dataDir
					o.Now = func() time.Time { return time.Now().UTC().Add(time.Duration(ahead.Load())) }
				})
				if err := r.Start(t.Context(), []Script{cronScript("tick", tc.spec)}); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- r.RunCron(ctx) }()
				ran := func(after time.Duration) int32 {
					time.Sleep(after)
					synctest.Wait()
					return held.arrived.Load()
				}
				if n := ran(tc.before); n != 1 {
					t.Fatalf("%d runs before the clock is changed", n)
				}
				ahead.Store(int64(tc.jump))
				if n := ran(tc.wait); n != 2 {
					t.Errorf("%d runs within %v, want 1", n-1, tc.wait)
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestRunner_CronMindsNoCorrection: a script does not run twice because a clock is
// put right.
func TestRunner_CronMindsNoCorrection(t *testing.T) {
	logDir, dataDir := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		held := &heldCommands{release: make(chan struct{})}
		close(held.release)
		var ahead atomic.Int64
		r, _ := newRunner(t, func(o *Options) {
			o.Commands, o.LogDir, o.DataDir = held, logDir, dataDir
			o.Now = func() time.Time { return time.Now().UTC().Add(time.Duration(ahead.Load())) }
		})
		if err := r.Start(t.Context(), []Script{cronScript("tick", "0 */5 * * * *")}); err != nil {
			t.Fatal(err)
		}
		go func() { _ = r.RunCron(t.Context()) }()
		time.Sleep(5*time.Minute + time.Second)
		ahead.Store(int64(-30 * time.Second))
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if n := held.arrived.Load(); n != 1 {
			t.Errorf("%d runs", n)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
