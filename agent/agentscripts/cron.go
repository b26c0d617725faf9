package agentscripts

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/retry"
)

// RunCron runs the scripts that have a schedule when they are due, until ctx
// ends or the Runner is closed, and returns when the last run has ended; at once
// if there are none. A script of which any run is still going, of whatever stage,
// is not started again; that is counted. Schedules follow the wall clock, also when
// it is changed.
func (r *Runner) RunCron(ctx context.Context) error {
	if !r.enter() {
		return ErrClosed
	}
	defer r.work.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()

	r.mu.Lock()
	jobs := r.jobs
	r.mu.Unlock()
	var running sync.WaitGroup
	for _, j := range jobs {
		if j.Cron != "" {
			r.schedule(ctx, &running, j)
		}
	}
	running.Wait()
	return nil
}

// schedule makes the script run in a goroutine that running waits for; one that has
// no schedule to follow is one that could not be started.
func (r *Runner) schedule(ctx context.Context, running *sync.WaitGroup, j *job) {
	now := time.Now()
	s, err := ParseSchedule(j.Cron)
	if err != nil {
		_ = r.finish(j, stats.StageCron, now, notStarted(err)) // it logs and reports the error
		return
	}
	next := s.Next(r.wall())
	if next.IsZero() {
		_ = r.finish(j, stats.StageCron, now, notStarted(fmt.Errorf("schedule %.80q: it never comes due", j.Cron)))
		return
	}
	r.log.Info("script scheduled", "script", j.name(), "script_id", j.ID, "schedule", j.Cron, "next_run", next)
	running.Go(func() {
		r.follow(ctx, s, func() { running.Go(func() { r.runDue(ctx, j) }) })
	})
}

const (
	// clockCheck is how late a change of the clock is noticed at most.
	clockCheck = 10 * time.Second
	// setBack is how far the clock must be set back for the times to come again that
	// have passed. A small correction must not make a script run twice.
	setBack = time.Minute
)

// wall returns the wall clock. Its monotonic reading is of no use: the timer of a
// clock that is changed would wait for the wrong moment.
func (r *Runner) wall() time.Time { return r.o.Now().Round(0) }

// follow calls due whenever the schedule says, until ctx ends. Times that the clock
// has jumped over come due once, together.
func (r *Runner) follow(ctx context.Context, s cron.Schedule, due func()) {
	now := r.wall()
	for next := s.Next(now); !next.IsZero(); {
		if retry.Sleep(ctx, min(max(0, next.Sub(now)), clockCheck)) != nil {
			return
		}
		last := now
		now = r.wall()
		switch {
		case last.Sub(now) > setBack:
			next = s.Next(now)
		case !now.Before(next):
			due()
			next = s.Next(now)
		}
	}
}

func (r *Runner) runDue(ctx context.Context, j *job) {
	if ctx.Err() != nil {
		return
	}
	if !j.running.CompareAndSwap(0, 1) {
		r.o.Tally.ScriptOverlapped()
		if j.skipped.Add(1) == 1 { // one that hangs is not worth a line a second
			r.log.Warn("script still running, due runs are skipped until it ends", "script", j.name(), "script_id", j.ID)
		}
		return
	}
	defer j.running.Add(-1)
	if n := j.skipped.Swap(0); n > 0 {
		r.log.Info("script runs again", "script", j.name(), "script_id", j.ID, "skipped", n)
	}
	_ = r.run(ctx, j, stats.StageCron)
}
