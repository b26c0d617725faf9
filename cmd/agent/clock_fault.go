//go:build faultclock

package main

import (
	"time"

	"github.com/worktally/worktally/internal/faultclock"
)

// wallClock is the wall clock of the program, nil for the machine's.
func wallClock(getenv func(string) string) func() time.Time {
	return faultclock.FromEnvironment(getenv)
}
