//go:build !faultclock

package main

import "time"

// wallClock is the wall clock of the program, nil for the machine's.
func wallClock(func(string) string) func() time.Time { return nil }
