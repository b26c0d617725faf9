package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"syscall"
	"time"
)

// notify delivers the signals that the program minds. With GOTRACEBACK=crash
// SIGQUIT keeps what Go does with it; started to survive its terminal, as with nohup,
// it does.
func notify() (signals <-chan os.Signal, stop func()) {
	ch := make(chan os.Signal, 8)
	minded := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGTRAP}
	if !signal.Ignored(syscall.SIGHUP) {
		minded = append(minded, syscall.SIGHUP)
	}
	if os.Getenv("GOTRACEBACK") != "crash" {
		minded = append(minded, syscall.SIGQUIT)
	}
	signal.Notify(ch, minded...)
	return ch, func() { signal.Stop(ch) }
}

// mortalChildren makes an agent that ignores SIGHUP start children that do not: they
// are ended by it. What is ignored is inherited, what is handled is not.
func mortalChildren() (stop func()) {
	if !signal.Ignored(syscall.SIGHUP) {
		return func() {}
	}
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, syscall.SIGHUP)
	return func() { signal.Stop(unread) }
}

// dumpStacks writes the stacks of all goroutines to w and to a file in the home.
func dumpStacks(w io.Writer) (path string, err error) {
	var stacks bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 2); err != nil {
		return "", err
	}
	_, errStderr := w.Write(stacks.Bytes())
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.Join(errStderr, err)
	}
	path = filepath.Join(home, "coder-agent-"+time.Now().UTC().Format("2006-01-02T15-04-05.000Z")+".dump")
	return path, errors.Join(errStderr, os.WriteFile(path, stacks.Bytes(), 0o600))
}
