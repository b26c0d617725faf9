package agentscripts

import (
	"context"
	"fmt"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/worktally/worktally/agent/stats"
)

// RunCron runs the scripts that have a schedule when they are due, until ctx
// ends or the Runner is closed, and returns when the last run has ended; at once
// if there are none. A script of which any run is still going, of whatever stage,
// is not started again; that is counted. How the schedule follows the clock, its
// jumps and daylight saving time is cron's business.
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
	c := cron.New(cron.WithLogger(cron.DiscardLogger))
	for _, j := range jobs {
		if j.Cron == "" {
			continue
		}
		r.schedule(ctx, c, j)
	}
	if len(c.Entries()) == 0 {
		return nil
	}
	c.Start()
	<-ctx.Done()
	<-c.Stop().Done()
	return nil
}

// schedule enters the script into c; one that cannot be is one that could not be
// started.
func (r *Runner) schedule(ctx context.Context, c *cron.Cron, j *job) {
	now := time.Now()
	s, err := ParseSchedule(j.Cron)
	if err != nil {
		_ = r.finish(j, stats.StageCron, now, notStarted(err)) // it logs and reports the error
		return
	}
	next := s.Next(now)
	if next.IsZero() {
		_ = r.finish(j, stats.StageCron, now, notStarted(fmt.Errorf("schedule %.80q: it never comes due", j.Cron)))
		return
	}
	c.Schedule(s, cron.FuncJob(func() {
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
	}))
	r.log.Info("script scheduled", "script", j.name(), "script_id", j.ID, "schedule", j.Cron, "next_run", next)
}
