package agentscripts

import (
	"context"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

// heldCommands holds each run until it is released, and lets it fail then.
type heldCommands struct {
	arrived atomic.Int32
	release chan struct{}
}

func (h *heldCommands) Command(ctx context.Context, _ agentexec.Request) (*exec.Cmd, error) {
	h.arrived.Add(1)
	select {
	case <-h.release:
	case <-ctx.Done():
	}
	return nil, errTest
}

func (h *heldCommands) ExpandPath(p string) string { return p }

func cronScript(name, spec string) Script {
	s := newScript(name, "true")
	s.RunOnStart, s.Cron = false, spec
	return s
}

func TestRunner_CronRunsWhatIsDueAndSkipsWhatStillRuns(t *testing.T) {
	logDir, dataDir := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		held := &heldCommands{release: make(chan struct{})}
		r, rec := newRunner(t, func(o *Options) { o.Commands, o.LogDir, o.DataDir = held, logDir, dataDir })
		good := cronScript("good", "*/10 * * * * *")
		bad := cronScript("bad", "@every -5s")
		never := cronScript("never", "0 0 0 30 2 *")
		if err := r.Start(t.Context(), []Script{bad, good, never}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.RunCron(ctx) }()
		synctest.Wait()
		if diff := cmp.Diff([]stats.ScriptStatus{stats.ScriptNotStarted, stats.ScriptNotStarted}, rec.statuses()); diff != "" {
			t.Errorf("bad schedules (-want +got):\n%s", diff)
		}
		for s, want := range map[*Script]string{&bad: "shorter than a second", &never: "never comes due"} {
			if l := rec.linesOf(*s); len(l) != 1 || !strings.Contains(l[0].Text, want) {
				t.Errorf("lines of %q = %v, want one with %q", s.DisplayName, l, want)
			}
			if tm := rec.timing(t, *s); tm.Stage != stats.StageCron || tm.ExitCode != 255 {
				t.Errorf("timing of %q = %+v", s.DisplayName, tm)
			}
		}
		log := rec.logged()
		if got := strings.Count(log, "next_run="); got != 1 || !strings.Contains(log, "next_run=2000-01-01T00:00:10") {
			t.Errorf("%d lines name the next run:\n%s", got, log)
		}

		time.Sleep(35 * time.Second) // due at 10, 20, 30; the first run is held
		synctest.Wait()
		if held.arrived.Load() != 1 || rec.overlapped() != 2 {
			t.Errorf("after 35 s: %d runs, %d overlaps, want 1 and 2", held.arrived.Load(), rec.overlapped())
		}
		held.release <- struct{}{}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if held.arrived.Load() != 2 || rec.overlapped() != 2 {
			t.Errorf("after 45 s: %d runs, %d overlaps, want 2 and 2", held.arrived.Load(), rec.overlapped())
		}
		if log := rec.logged(); strings.Count(log, "still running") != 1 || strings.Count(log, "skipped=2") != 1 {
			t.Errorf("the skipped runs are not told once:\n%s", log)
		}
		cancel() // ends the run that is held now, and the schedule
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got := len(rec.runs); got != 4 {
			t.Errorf("%d runs counted, want 4", got)
		}
	})
}

func TestRunner_CronSkipsAScriptThatStillRunsSinceTheStart(t *testing.T) {
	logDir, dataDir := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		held := &heldCommands{release: make(chan struct{})}
		r, rec := newRunner(t, func(o *Options) { o.Commands, o.LogDir, o.DataDir = held, logDir, dataDir })
		both := cronScript("both", "@every 10s")
		both.RunOnStart = true
		started := make(chan error, 1)
		go func() { started <- r.Start(t.Context(), []Script{both}) }()
		synctest.Wait()
		ended := make(chan error, 1)
		go func() { ended <- r.RunCron(t.Context()) }()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if held.arrived.Load() != 1 || rec.overlapped() != 1 {
			t.Errorf("%d runs, %d overlaps, want 1 and 1", held.arrived.Load(), rec.overlapped())
		}
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := <-started; err == nil {
			t.Error("the start succeeded")
		}
	})
}

func TestRunner_CronRealProcess(t *testing.T) {
	r, rec := newRunner(t, nil)
	s := cronScript("tick", "* * * * * *")
	s.Script = "echo tick"
	if err := r.Start(t.Context(), []Script{s}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.RunCron(ctx) }()
	eventually(t, "a run", func() bool { return len(rec.statuses()) > 0 })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if tm := rec.timings[0]; tm.Stage != stats.StageCron || tm.Status != stats.ScriptOK {
		t.Errorf("timing = %+v", tm)
	}
}
