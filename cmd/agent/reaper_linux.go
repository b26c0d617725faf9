package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/worktally/worktally/internal/exitcode"
	"github.com/worktally/worktally/internal/rotate"
)

// initLog is the log of the parent that reaps.
const initLog = "coder-agent-init.log"

// reap makes process 1 a parent that does nothing but reap: the agent runs in a
// child and session of its own, and process 1 ends with it (contract agent-cli.md
// section 2). done is false in every other process.
func reap(p process, f flags) (code int, done bool) {
	if f.NoReap || os.Getpid() != 1 {
		return 0, false
	}
	log := slog.New(slog.DiscardHandler)
	if file, err := rotate.Open(filepath.Join(f.logDir(), initLog), logLimit, 1); err == nil {
		defer file.Close()
		log = slog.New(slog.NewTextHandler(file, nil))
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintf(p.stderr, "worktally-agent: find the program: %v\n", err)
		return exitcode.Failed, true
	}
	child, err := os.StartProcess(self, append(append([]string{os.Args[0]}, p.args...), "--no-reap"), &os.ProcAttr{
		Env: p.environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		fmt.Fprintf(p.stderr, "worktally-agent: start the agent: %v\n", err)
		return exitcode.Failed, true
	}
	go func() { // ends with the process
		for s := range p.signals {
			log.Info("forwarding signal", "signal", s.String())
			_ = child.Signal(s)
		}
	}()
	log.Info("reaping", "child", child.Pid)
	return reapUntil(child.Pid, log), true
}

// reapUntil waits for every child that ends, until it is the given one, whose
// exit code it returns.
func reapUntil(pid int, log *slog.Logger) int {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			log.Error("wait for children", "err", err)
			return exitcode.Failed
		case got == pid && status.Signaled():
			return 128 + int(status.Signal())
		case got == pid:
			return status.ExitStatus()
		}
	}
}
