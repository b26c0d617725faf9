package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// install makes a place for the real server, in a process of its own, that knows
// as many agents, which are in this one. remove must be called.
func install(ctx context.Context, o options, workspaces int) (in *installation, agents []known, remove func(), err error) {
	dir, err := os.MkdirTemp("", "worktally-bench-")
	if err != nil {
		return nil, nil, nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) } // what is left is in a temporary directory
	fmt.Fprintf(o.progress, "making %d workspaces\n", workspaces)
	agents, err = seed(ctx, dir, workspaces)
	if err == nil {
		in, err = newInstallation(o.bin, dir)
	}
	if err != nil {
		remove()
	}
	return in, agents, remove, err
}

func jitter(d time.Duration) time.Duration { return rand.N(d) }

// wait asks once in a while whether something is so.
func wait(ctx context.Context, what string, most time.Duration, so func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: not within %s", what, most), ctx.Err())
		}
	}
	return nil
}
