package republish

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/worktally/worktally/server/ledger"
)

const rxSample = rxBytes + "{" + idLabels + "}"

// changed is an outcome by a clock that is ahead; the database keeps no monotonic
// reading.
func changed(o ledger.Outcome, ahead time.Duration) ledger.Outcome {
	at := func(t time.Time) time.Time { return t.Round(0).Add(ahead) }
	o.Latest.End, o.Latest.Arrival = at(o.Latest.End), at(o.Latest.Arrival)
	for i, w := range o.Latest.Recent {
		o.Latest.Recent[i].End = at(w.End)
	}
	return o
}

func eachJump(t *testing.T, test func(t *testing.T, ahead time.Duration)) {
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, ahead) })
		})
	}
}

// TestClock_ReportsExpireInTime: after the clock was changed, series live for two
// intervals and the grace after a report, and the byte gauges forget it after their
// window, whatever the clock says.
func TestClock_ReportsExpireInTime(t *testing.T) {
	eachJump(t, func(t *testing.T, ahead time.Duration) {
		var jump time.Duration
		p := newPublisher(t, &store{}, func(o *Options) { o.Now = func() time.Time { return time.Now().Round(0).Add(jump) } })
		id := identity("box")
		time.Sleep(time.Minute)
		p.Reported(id, time.Now(), changed(outcome(id, 5, 1), jump))
		time.Sleep(30 * time.Second)
		jump = ahead
		time.Sleep(30*time.Second - 1)
		if reported(t, p) == 0 {
			t.Error("the clock was changed, and an agent is not shown any more")
		}
		o := changed(outcome(id, 7, 1), jump)
		o.Latest.Interval = time.Minute
		p.Reported(id, time.Now(), o)
		time.Sleep(time.Minute - 1)
		want(t, p, map[string]string{rxSample: "7"})
		// What is sent late changes the totals, and prolongs nothing.
		late := o
		late.Newest = false
		p.Reported(id, time.Now(), late)
		want(t, p, map[string]string{rxSample: "7"})
		time.Sleep(1)
		want(t, p, map[string]string{rxSample: "0"})
		time.Sleep(time.Minute + grace - 1)
		if reported(t, p) == 0 {
			t.Error("the series ended too soon")
		}
		p.Reported(id, time.Now(), late)
		time.Sleep(1)
		if n := reported(t, p); n != 0 {
			t.Errorf("%d samples stay too long", n)
		}
	})
}

// TestClock_RestartsShowNobodyForLong: the clock was changed while the server was
// away. Nobody is shown for longer than after a report that came just now.
func TestClock_RestartsShowNobodyForLong(t *testing.T) {
	eachJump(t, func(t *testing.T, ahead time.Duration) {
		id := identity("box")
		s := &store{latest: []ledger.Latest{changed(outcome(id, 5, 1), 0).Latest}}
		s.statuses = append(s.statuses, status(id))
		time.Sleep(20 * time.Second)
		p := newPublisher(t, s, func(o *Options) { o.Now = func() time.Time { return time.Now().Round(0).Add(ahead) } })
		lives := 2*30*time.Second + grace
		switch {
		case ahead > 0: // its time seems to be over; it reports again
			if n := reported(t, p); n != 0 {
				t.Errorf("%d samples of somebody who is silent, as it seems", n)
			}
			p.Reported(id, time.Now(), changed(outcome(id, 5, 1), ahead))
		case ahead == 0:
			lives -= 20 * time.Second
		}
		time.Sleep(lives - 1)
		if reported(t, p) == 0 {
			t.Error("the series ended too soon")
		}
		time.Sleep(1)
		if n := reported(t, p); n != 0 {
			t.Errorf("%d samples stay too long", n)
		}
	})
}

// TestClock_StatesAreReadInTime: they also change by time alone, so they are read at
// least every 5 s, whatever the clock says.
func TestClock_StatesAreReadInTime(t *testing.T) {
	eachJump(t, func(t *testing.T, ahead time.Duration) {
		var jump time.Duration
		p := newPublisher(t, &store{}, func(o *Options) { o.Now = func() time.Time { return time.Now().Round(0).Add(jump) } })
		jump = ahead
		if d := p.untilNextState(); d < 0 || d > refreshAtLeast {
			t.Errorf("the states are read in %v", d)
		}
	})
}
