package catalog

import (
	"fmt"
	"slices"
	"time"

	"github.com/worktally/worktally/internal/sqldb"
)

// Status is how far a build or a job is.
type Status string

// The statuses. A run only ever moves down this list, and what has ended stays as
// it ended first.
const (
	StatusPending   Status = "pending"
	StatusRunning   Status = "running"
	StatusCanceling Status = "canceling"
	StatusSucceeded Status = "succeeded"
	StatusFailed    Status = "failed"
	StatusCanceled  Status = "canceled"
)

// Statuses returns all of them.
func Statuses() []Status {
	return []Status{StatusPending, StatusRunning, StatusSucceeded, StatusCanceling, StatusCanceled, StatusFailed}
}

// Ended says whether the run is over.
func (s Status) Ended() bool { return s.rank() == rankEnded }

// Result is the status under which a run that has ended is counted: success, or
// failed, which is also what became of a run that was canceled.
func (s Status) Result() string {
	if s == StatusSucceeded {
		return "success"
	}
	return "failed"
}

const rankEnded = 3

func (s Status) rank() int {
	switch s {
	case StatusPending:
		return 0
	case StatusRunning:
		return 1
	case StatusCanceling:
		return 2
	}
	return rankEnded
}

func (s Status) check() error {
	if s != "" && !slices.Contains(Statuses(), s) {
		return fmt.Errorf("%w status %q: want one of %v", ErrInvalid, clean(string(s)), Statuses())
	}
	return nil
}

// run is what builds and jobs have in common. Times are zero if not known.
type run struct {
	status                  Status
	created, started, ended time.Time
	// timed: the duration was counted.
	timed bool
}

// newRun is a run of which nothing is known but that it exists.
func newRun(now time.Time) run { return run{status: StatusPending, created: now} }

// eventRun is what an event tells of a run.
func eventRun(s Status, created, started, ended time.Time) run {
	return run{status: s, created: stored(created), started: stored(started), ended: stored(ended)}
}

// merge returns the run after an event. Events may come in any order and any
// number of times: statuses only move on, times only become known or earlier, and
// an end is final. now stands for a time that the event does not tell, and limits
// those that it does.
func (r run) merge(e run, now time.Time) run {
	if !e.created.IsZero() {
		r.created = earlier(r.created, earlier(e.created, now))
	}
	started := e.started
	if started.IsZero() && !r.status.Ended() && (e.status == StatusRunning || e.status == StatusCanceling) {
		started = firstTime(r.started, now)
	}
	if !started.IsZero() {
		r.started = earlier(firstTime(r.started, started), earlier(started, now))
	}
	if e.status == "" || r.status.Ended() || e.status.rank() < r.status.rank() {
		return r
	}
	r.status = e.status
	if r.status.Ended() {
		r.ended = earlier(firstTime(e.ended, now), now)
	}
	return r
}

// duration returns how long a run took, as soon as both ends are known.
func (r run) duration() (time.Duration, bool) {
	if !r.status.Ended() || r.started.IsZero() {
		return 0, false
	}
	return max(r.ended.Sub(r.started), 0), true
}

// stored brings a time to what the database keeps, which is microseconds. One before
// 2000 is unknown: that is what the beginning of a calendar means, and no build is
// that old.
func stored(t time.Time) time.Time {
	if t.Year() < 2000 {
		return time.Time{}
	}
	return sqldb.Time(sqldb.Micros(t))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// firstTime returns the first of the times that is not zero.
func firstTime(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}
