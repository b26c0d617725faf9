package agentscripts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"runtime/debug"
	"time"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

// exitUnknown is the exit code on the wire when no process told one.
const exitUnknown = 255

// result is how a run ended.
type result struct {
	status stats.ScriptStatus
	code   int32
	err    error
}

// run runs the script once, counts it and reports it.
func (r *Runner) run(ctx context.Context, j *job, stage stats.Stage) error {
	if !r.enter() {
		return fmt.Errorf("%s script %q: %w", stage, j.name(), ErrClosed)
	}
	defer r.work.Done()
	j.running.Add(1)
	defer j.running.Add(-1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()

	start := time.Now()
	return r.finish(j, stage, start, r.guarded(ctx, j, stage))
}

// guarded is the edge at which a mistake of ours ends this run only.
func (r *Runner) guarded(ctx context.Context, j *job, stage stats.Stage) (res result) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("script runner panicked", "script_id", j.ID, "panic", p, "stack", string(debug.Stack()))
			res = result{stats.ScriptExitFailure, exitUnknown, fmt.Errorf("internal error: %v", p)}
		}
	}()
	return r.execute(ctx, j, stage)
}

// finish counts and reports an ended run.
func (r *Runner) finish(j *job, stage stats.Stage, start time.Time, res result) error {
	length := time.Since(start)
	r.o.Tally.ScriptRan(stats.ScriptRun{Stage: stage, Status: res.status, Duration: length})
	onWire := res.status
	if res.status == stats.ScriptNotStarted {
		onWire = stats.ScriptExitFailure
		r.o.Sink.Line(j.LogSourceID, time.Now(), slog.LevelError, "script not started: "+res.err.Error())
	}
	r.o.Sink.Completed(Timing{
		ScriptID: j.ID, Start: start, End: start.Add(length),
		ExitCode: res.code, Stage: stage, Status: onWire,
	})
	attrs := []any{
		"script", j.name(), "script_id", j.ID, "stage", string(stage), "status", string(res.status),
		"exit_code", res.code, "duration_seconds", length.Seconds(),
	}
	if res.err == nil {
		r.log.Info("script ended", attrs...)
		return nil
	}
	r.log.Warn("script ended", append(attrs, "err", res.err)...)
	return fmt.Errorf("%s script %q: %w", stage, j.name(), res.err)
}

func notStarted(err error) result { return result{stats.ScriptNotStarted, exitUnknown, err} }

// execute does the work of one run: files, command, process, output.
func (r *Runner) execute(ctx context.Context, j *job, stage stats.Stage) result {
	data, bin, err := r.dirs(j.Script)
	if err != nil {
		return notStarted(err)
	}
	file, err := r.openLog(j.Script)
	if err != nil {
		return notStarted(err)
	}
	defer file.Close()
	if j.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, j.Timeout, ErrTimeout)
		defer cancel()
	}
	cmd, err := r.o.Commands.Command(ctx, agentexec.Request{
		Command: j.Script.Script,
		Extra:   []string{"CODER_SCRIPT_DATA_DIR=" + data, "CODER_SCRIPT_BIN_DIR=" + bin},
	})
	if err != nil {
		return notStarted(fmt.Errorf("build command: %w", err))
	}
	out := &output{
		emit:       func(l slog.Level, text string) { r.o.Sink.Line(j.LogSourceID, time.Now(), l, text) },
		fileFailed: func(err error) { r.log.Warn("write script log", "script_id", j.ID, "err", err) },
		maxLine:    r.o.MaxLineBytes,
		file:       file,
		budget:     j.budget,
	}
	r.log.Info("script started", "script", j.name(), "script_id", j.ID, "stage", string(stage), "log_path", file.Name())
	res := r.process(ctx, cmd, out)
	if out.dropped > 0 {
		r.o.Tally.Drop(stats.DropScriptOutput, out.dropped)
		r.log.Warn("script output dropped", "script", j.name(), "script_id", j.ID, "lines", out.dropped)
	}
	return res
}

// process runs the command to its end. After the end of ctx its group gets
// SIGHUP, and SIGKILL if it is still there shortly before the drain is over.
func (r *Runner) process(ctx context.Context, cmd *exec.Cmd, out *output) result {
	stdout, stderr := &stream{out: out, level: slog.LevelInfo}, &stream{out: out, level: slog.LevelError}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	agentexec.OwnSession(cmd)
	cmd.WaitDelay = r.o.Drain
	var group reaper
	cmd.Cancel = func() error { return group.interrupt(cmd, r.o.Drain-r.o.Drain/10) }
	if err := cmd.Start(); err != nil {
		return notStarted(fmt.Errorf("start command: %w", err))
	}
	err := cmd.Wait()
	interrupted, killed := group.ended()
	stdout.flush()
	stderr.flush()
	if killed {
		out.say(slog.LevelError, "script did not end after SIGHUP: its process group was killed")
	}
	return r.judge(ctx, cmd, err, interrupted, out)
}

// judge turns the end of a process into a result; a timeout outranks open pipes,
// and these an exit code.
func (r *Runner) judge(ctx context.Context, cmd *exec.Cmd, err error, interrupted bool, out *output) result {
	code := int32(exitUnknown)
	if s := cmd.ProcessState; s != nil && s.ExitCode() >= 0 {
		code = int32(s.ExitCode())
	}
	switch {
	case interrupted && errors.Is(context.Cause(ctx), ErrTimeout):
		out.say(slog.LevelError, ErrTimeout.Error())
		return result{stats.ScriptTimedOut, code, ErrTimeout}
	case interrupted:
		return result{stats.ScriptExitFailure, code, fmt.Errorf("interrupted: %w", context.Cause(ctx))}
	case errors.Is(err, exec.ErrWaitDelay):
		out.say(slog.LevelError, fmt.Sprintf("%v for %s: does it start something in the background without redirecting its output?",
			ErrPipesLeftOpen, r.o.Drain))
		return result{stats.ScriptPipesLeftOpen, code, ErrPipesLeftOpen}
	case err != nil:
		return result{stats.ScriptExitFailure, code, err}
	}
	return result{stats.ScriptOK, code, nil}
}
