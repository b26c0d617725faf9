//go:build unix

package agentscripts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

func TestRunner_StartRunsInParallelAndReportsEachScript(t *testing.T) {
	r, rec := newRunner(t, nil)
	// Neither of the two ends without the other.
	meet := filepath.Join(t.TempDir(), "meet")
	if err := syscall.Mkfifo(meet, 0o600); err != nil {
		t.Fatal(err)
	}
	first := newScript("first", "#!/bin/sh\nread word < "+meet+"; echo got $word; printf 'tail\\r\\nrest'")
	second := newScript("second", "echo hello > "+meet+"; echo sent >&2; exit 3")
	idle := newScript("idle", "exit 9")
	idle.RunOnStart = false

	err := r.Start(t.Context(), []Script{first, second, idle})
	if err == nil || !strings.Contains(err.Error(), `start script "second": exit status 3`) || errors.Is(err, ErrTimeout) {
		t.Errorf("error = %v", err)
	}
	want := []line{{slog.LevelInfo, "got hello"}, {slog.LevelInfo, "tail"}, {slog.LevelInfo, "rest"}}
	if diff := cmp.Diff(want, rec.linesOf(first)); diff != "" {
		t.Errorf("lines of the first (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]line{{slog.LevelError, "sent"}}, rec.linesOf(second)); diff != "" {
		t.Errorf("lines of the second (-want +got):\n%s", diff)
	}
	if got := rec.timing(t, first); got.ExitCode != 0 || got.Status != stats.ScriptOK || got.Stage != stats.StageStart {
		t.Errorf("timing of the first = %+v", got)
	}
	if got := rec.timing(t, second); got.ExitCode != 3 || got.Status != stats.ScriptExitFailure {
		t.Errorf("timing of the second = %+v", got)
	}
	if len(rec.runs) != 2 || rec.startup == nil || rec.startup.Success || rec.startup.Duration <= 0 {
		t.Errorf("runs = %v, startup = %+v", rec.runs, rec.startup)
	}
	if err := r.Start(t.Context(), nil); err == nil {
		t.Error("a second start was accepted")
	}
}

func TestRunner_FilesAndEnvironment(t *testing.T) {
	r, rec := newRunner(t, nil)
	s := newScript("env", `echo "$CODER_SCRIPT_DATA_DIR|$CODER_SCRIPT_BIN_DIR"; printf 'crlf\r\n'`)
	log := filepath.Join(r.o.LogDir, "coder-script-"+s.LogSourceID.String()+".log")
	if err := os.WriteFile(log, []byte("earlier\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), []Script{s}); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(r.o.DataDir, "coder-script-data", s.LogSourceID.String())
	bin := filepath.Join(r.o.DataDir, "coder-script-data", "bin")
	if got, want := readFile(t, log), "earlier\n"+data+"|"+bin+"\ncrlf\r\n"; got != want {
		t.Errorf("log file = %q, want %q", got, want)
	}
	for path, want := range map[string]os.FileMode{data: 0o700, bin: 0o700, log: 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("mode of %s = %v, want %v", path, info.Mode().Perm(), want)
		}
	}
	if !rec.startup.Success {
		t.Error("the start phase counts as failed")
	}
}

func TestRunner_LogPath(t *testing.T) {
	home := t.TempDir()
	commands, err := agentexec.New(agentexec.Options{Home: home, Shell: "/bin/sh",
		Environ: func() []string { return []string{"NAME=name", "ABS=/var/x"} }})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := newRunner(t, func(o *Options) { o.Commands = commands; o.LogDir = "/logs" })
	for path, want := range map[string]string{
		"startup.log":     "/logs/startup.log",
		"sub/$NAME.log":   "/logs/sub/name.log",
		"$NAME.log":       "/logs/name.log",
		"$ABS/a.log":      "/var/x/a.log",
		"~/a.log":         home + "/a.log",
		"$HOME/a.log":     home + "/a.log",
		"/tmp/$NAME.log":  "/tmp/name.log",
		"../up.log":       "/logs/up.log",
		"${NAME}/b/c.log": "/logs/name/b/c.log",
	} {
		if got := r.logPath(Script{LogPath: path}); got != want {
			t.Errorf("log path of %q = %q, want %q", path, got, want)
		}
	}
}

func TestRunner_WhatCannotStartLeavesTheOthersAlone(t *testing.T) {
	r, rec := newRunner(t, nil)
	good := newScript("good", "echo fine")
	noShell := newScript("no shell", "#!/nowhere/shell\necho")
	noLog := newScript("no log", "echo")
	noLog.LogPath = "/dev/null/x.log"
	err := r.Start(t.Context(), []Script{noShell, good, noLog})
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("error = %v, want one line for each of two scripts", err)
	}
	if got := rec.timing(t, good); got.Status != stats.ScriptOK {
		t.Errorf("the good one = %+v", got)
	}
	for s, text := range map[*Script]string{&noShell: "/nowhere/shell", &noLog: "open log file"} {
		if got := rec.timing(t, *s); got.Status != stats.ScriptExitFailure || got.ExitCode != 255 {
			t.Errorf("timing of %q = %+v", s.DisplayName, got)
		}
		lines := rec.linesOf(*s)
		if len(lines) != 1 || lines[0].Level != slog.LevelError || !strings.Contains(lines[0].Text, text) {
			t.Errorf("lines of %q = %v, want one with %q", s.DisplayName, lines, text)
		}
	}
	n := 0
	for _, s := range rec.statuses() {
		if s == stats.ScriptNotStarted {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d runs count as not started, want 2", n)
	}
}

func TestRunner_Timeout(t *testing.T) {
	r, rec := newRunner(t, nil)
	s := newScript("slow", "sleep 60 & sleep 60; echo never")
	s.Timeout = time.Second // less may be over before the start
	err := r.Start(t.Context(), []Script{s})
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("error = %v, want a timeout", err)
	}
	if got := rec.timing(t, s); got.Status != stats.ScriptTimedOut || got.ExitCode != 255 || got.End.Sub(got.Start) > 8*time.Second {
		t.Errorf("timing = %+v", got)
	}
	if diff := cmp.Diff([]line{{slog.LevelError, "script timed out"}}, rec.linesOf(s)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestRunner_TimeoutKillsAGroupThatIgnoresTheHangup(t *testing.T) {
	r, rec := newRunner(t, func(o *Options) { o.Drain = 2 * time.Second })
	s := newScript("stubborn", "trap '' HUP; echo $$; (while :; do sleep 0.02; done) & while :; do sleep 0.02; done")
	s.Timeout = 2 * time.Second // for the trap to be set
	if err := r.Start(t.Context(), []Script{s}); !errors.Is(err, ErrTimeout) {
		t.Errorf("error = %v, want a timeout", err)
	}
	lines := rec.linesOf(s)
	if len(lines) != 3 || !strings.Contains(lines[1].Text, "process group was killed") {
		t.Fatalf("lines = %v", lines)
	}
	group, err := strconv.Atoi(lines[0].Text)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the process group", func() bool { return errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) })
}

func TestRunner_PipesLeftOpen(t *testing.T) {
	r, rec := newRunner(t, func(o *Options) { o.Drain = time.Second })
	s := newScript("daemon", "sleep 60 & echo $!")
	err := r.Start(t.Context(), []Script{s})
	if !errors.Is(err, ErrPipesLeftOpen) {
		t.Errorf("error = %v", err)
	}
	lines := rec.linesOf(s)
	if len(lines) != 2 || lines[1].Level != slog.LevelError || !strings.Contains(lines[1].Text, "stayed open for 1s") {
		t.Fatalf("lines = %v", lines)
	}
	child, err := strconv.Atoi(lines[0].Text)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Errorf("the background child is gone: %v", err)
	}
	if got := rec.timing(t, s); got.Status != stats.ScriptPipesLeftOpen || got.ExitCode != 0 {
		t.Errorf("timing = %+v", got)
	}
}

func TestRunner_FloodIsBoundedAndCounted(t *testing.T) {
	r, rec := newRunner(t, func(o *Options) { o.OutputBurst, o.OutputRate, o.MaxLineBytes = 10_000, 1, 1000 })
	s := newScript("flood", `i=0; while [ $i -lt 3000 ]; do echo 123456789; i=$((i+1)); done`)
	if err := r.Start(t.Context(), []Script{s}); err != nil {
		t.Fatal(err)
	}
	// A slow machine may earn a line or two of the refill.
	kept, notices := 0, 0
	for _, l := range rec.linesOf(s) {
		if l.Text == "123456789" {
			kept++
		}
		if strings.Contains(l.Text, "lines are dropped") {
			notices++
		}
	}
	if kept < 1000 || kept > 1010 || notices != 1 || rec.dropped != 3000-kept {
		t.Errorf("kept %d lines, dropped %d, %d notices", kept, rec.dropped, notices)
	}
	log := readFile(t, r.logPath(s))
	if got := strings.Count(log, "123456789\n"); got != kept {
		t.Errorf("the log file has %d lines, want %d", got, kept)
	}
}

// TestRunner_FloodOfManyRunsIsBounded: a script that is run again and again has no
// more than one that goes on.
func TestRunner_FloodOfManyRunsIsBounded(t *testing.T) {
	r, rec := newRunner(t, func(o *Options) { o.OutputBurst, o.OutputRate, o.MaxLineBytes = 10_000, 1, 1000 })
	s := newScript("flood", `i=0; while [ $i -lt 300 ]; do echo 123456789; i=$((i+1)); done`)
	s.RunOnStop = true
	if err := r.Start(t.Context(), []Script{s}); err != nil {
		t.Fatal(err)
	}
	for range 9 { // as a schedule would
		if err := r.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	kept := strings.Count(readFile(t, r.logPath(s)), "123456789\n")
	if kept < 900 || kept > 1020 || rec.dropped != 3000-kept {
		t.Errorf("kept %d lines, dropped %d", kept, rec.dropped)
	}
}

func TestRunner_FullDiskEndsTheFileNotTheScript(t *testing.T) {
	r, rec := newRunner(t, nil)
	s := newScript("full", "echo one; echo two")
	s.LogPath = "/dev/full"
	if _, err := os.Stat(s.LogPath); err != nil {
		t.Skip("no /dev/full here")
	}
	if err := r.Start(t.Context(), []Script{s}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range rec.linesOf(s) {
		got = append(got, l.Text)
	}
	want := []string{"the log file gets no more lines: write /dev/full: no space left on device", "one", "two"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestRunner_StopAndClose(t *testing.T) {
	r, rec := newRunner(t, nil)
	if err := r.Stop(t.Context()); err == nil {
		t.Error("a stop before any manifest was accepted")
	}
	endless := newScript("endless", "echo up; sleep 60")
	stop := newScript("stop", "echo bye")
	stop.RunOnStart, stop.RunOnStop = false, true
	started := make(chan error, 1)
	go func() { started <- r.Start(context.Background(), []Script{endless, stop}) }()
	eventually(t, "output of the endless script", func() bool { return len(rec.linesOf(endless)) == 1 })
	if err := r.Stop(t.Context()); err != nil {
		t.Errorf("stop: %v", err)
	}
	if got := rec.timing(t, stop); got.Stage != stats.StageStop || got.Status != stats.ScriptOK {
		t.Errorf("timing = %+v", got)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-started; err == nil || !errors.Is(err, context.Canceled) || errors.Is(err, ErrTimeout) {
		t.Errorf("the endless script ended with %v", err)
	}
	if err := r.Stop(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("stop after close: %v", err)
	}
	if err := r.RunCron(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("cron after close: %v", err)
	}
}

func TestRunner_CloseIsBounded(t *testing.T) {
	r, rec := newRunner(t, func(o *Options) { o.Drain = 3 * time.Second })
	s := newScript("stubborn", "trap '' HUP; echo up; while :; do sleep 0.02; done")
	started := make(chan error, 1)
	go func() { started <- r.Start(context.Background(), []Script{s}) }()
	eventually(t, "output", func() bool { return len(rec.linesOf(s)) == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close = %v", err)
	}
	<-started
}

func TestRunner_ManyScripts(t *testing.T) {
	r, rec := newRunner(t, nil)
	var scripts []Script
	for i := range 20 {
		scripts = append(scripts, newScript(fmt.Sprint(i), fmt.Sprintf("echo out; echo err >&2; exit %d", i%2)))
	}
	if err := r.Start(t.Context(), scripts); err == nil {
		t.Error("no error")
	}
	ok := 0
	for _, s := range rec.statuses() {
		if s == stats.ScriptOK {
			ok++
		}
	}
	if ok != 10 || len(rec.timings) != 20 {
		t.Errorf("%d succeeded, %d timings", ok, len(rec.timings))
	}
}

func TestNew_MissingOptions(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("empty options were accepted")
	}
}
