package agentscripts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

var (
	// ErrTimeout is the error of a script that ran into its timeout.
	ErrTimeout = errors.New("script timed out")
	// ErrPipesLeftOpen is the error of a script that ended while a child of it
	// kept its output open.
	ErrPipesLeftOpen = errors.New("script ended but its output stayed open")
	// ErrClosed is returned for runs that are asked for after Close.
	ErrClosed = errors.New("scripts are closed")
)

// Commands builds the commands; *agentexec.Builder is one.
type Commands interface {
	Command(ctx context.Context, r agentexec.Request) (*exec.Cmd, error)
	// ExpandPath expands "~" and environment variables.
	ExpandPath(string) string
}

// Tally counts; *stats.Tally is one.
type Tally interface {
	ScriptRan(stats.ScriptRun)
	ScriptOverlapped()
	StartPhaseEnded(stats.Startup)
	Drop(stats.Dropped, int)
}

// Sink takes what goes upstream. Its methods must neither block nor call back;
// they are called concurrently.
type Sink interface {
	// Line takes one output line without its end. Output of the script comes as
	// Info (stdout) and Error (stderr).
	Line(source uuid.UUID, at time.Time, level slog.Level, text string)
	Completed(Timing)
}

// Options of a Runner.
type Options struct {
	// Log may be nil.
	Log *slog.Logger
	// Commands, Tally and Sink are required.
	Commands Commands
	Tally    Tally
	Sink     Sink
	// LogDir holds the log files, DataDir the directory coder-script-data. Both
	// are required.
	LogDir, DataDir string
	// MaxLineBytes is where longer lines are continued as another line. 0 means
	// 64 KiB.
	MaxLineBytes int
	// OutputRate and OutputBurst bound the output that the runs of one script may
	// leave together, in bytes a second and at once; lines above are dropped. 0 means
	// 64 KiB and 16 MiB.
	OutputRate, OutputBurst int64
	// Drain is how long output is awaited after a timeout, or after the end of a
	// process whose children keep its pipes open. 0 means 10 s.
	Drain time.Duration
	// Now is the wall clock, which schedules follow. Nil means time.Now.
	Now func() time.Time
}

// Runner runs scripts. Create it with New.
type Runner struct {
	o   Options
	log *slog.Logger
	// life ends with Close; every run ends with it.
	life context.Context
	end  context.CancelFunc

	// mu guards the fields below.
	mu     sync.Mutex
	jobs   []*job
	loaded bool
	closed bool
	// work counts the runs and the scheduler. Add only under mu while not closed.
	work sync.WaitGroup
}

// job is a script with what is known about its runs.
type job struct {
	Script
	budget  *budget // of the output of all its runs
	running atomic.Int32
	skipped atomic.Int64 // due runs that were skipped since it ran last by schedule
}

// New checks the options and starts nothing.
func New(o Options) (*Runner, error) {
	if o.Commands == nil || o.Tally == nil || o.Sink == nil || o.LogDir == "" || o.DataDir == "" {
		return nil, errors.New("scripts need a command builder, a tally, a sink, a log directory and a data directory")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.MaxLineBytes, 64<<10)
	setDefault(&o.OutputRate, 64<<10)
	setDefault(&o.OutputBurst, 16<<20)
	setDefault(&o.Drain, 10*time.Second)
	o.OutputBurst = max(o.OutputBurst, int64(o.MaxLineBytes)) // or a long line would never pass
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Runner{o: o, log: o.Log}
	r.life, r.end = context.WithCancel(context.Background())
	return r, nil
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Start takes the scripts of the first manifest, runs those for the start in
// parallel and returns when all have ended, with the joined errors of those that
// failed: errors.Is(err, ErrTimeout) says that one of them timed out. When ctx,
// which lives as long as the agent, ends, so do the scripts. Start may be called
// once.
func (r *Runner) Start(ctx context.Context, scripts []Script) error {
	r.mu.Lock()
	if r.loaded {
		r.mu.Unlock()
		return errors.New("start scripts: they were started before")
	}
	r.loaded = true
	for _, s := range scripts {
		r.jobs = append(r.jobs, &job{Script: s, budget: newBudget(r.o.OutputRate, r.o.OutputBurst)})
	}
	r.mu.Unlock()
	began := time.Now()
	err := r.runAll(ctx, stats.StageStart, func(s Script) bool { return s.RunOnStart })
	r.o.Tally.StartPhaseEnded(stats.Startup{Duration: time.Since(began), Success: err == nil})
	return err
}

// Stop runs the scripts for the stop in parallel and returns when all have
// ended, with the joined errors. The end of ctx ends them. It is an error to
// stop what was never started.
func (r *Runner) Stop(ctx context.Context) error {
	r.mu.Lock()
	loaded := r.loaded
	r.mu.Unlock()
	if !loaded {
		return errors.New("stop scripts: there was no manifest")
	}
	return r.runAll(ctx, stats.StageStop, func(s Script) bool { return s.RunOnStop })
}

func (r *Runner) runAll(ctx context.Context, stage stats.Stage, wanted func(Script) bool) error {
	r.mu.Lock()
	jobs := r.jobs
	r.mu.Unlock()
	errs := make([]error, len(jobs))
	var wg sync.WaitGroup
	for i, j := range jobs {
		if wanted(j.Script) {
			wg.Go(func() { errs[i] = r.run(ctx, j, stage) })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// enter registers work that Close waits for.
func (r *Runner) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.work.Add(1)
	return true
}

// Close ends everything that still runs, as a timeout would, and waits for it
// until ctx ends. Nothing can be run afterwards.
func (r *Runner) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.work.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for scripts: %w", context.Cause(ctx))
	}
}
