// Package faultclock is a wall clock that is changed while a program runs, for tests
// of what a changed clock does. Only programs that are built with the tag faultclock
// have it.
package faultclock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Variable is the environment variable that names the file with the offset.
const Variable = "WORKTALLY_FAULT_CLOCK"

// FromEnvironment opens the clock that the variable names, nil if it names none.
func FromEnvironment(getenv func(string) string) func() time.Time {
	if file := getenv(Variable); file != "" {
		return Open(file)
	}
	return nil
}

// Open returns a clock that is ahead of the machine's by what the file says then,
// which Set writes. Without a file it is the machine's. Like every wall clock it has
// no monotonic reading. It panics on a file that it does not understand, for a test
// must not go on with another clock than it believes.
func Open(file string) func() time.Time {
	return func() time.Time {
		now := time.Now().Round(0)
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return now
		}
		if err != nil {
			panic(fmt.Sprintf("read the clock: %v", err))
		}
		d, err := time.ParseDuration(strings.TrimSpace(string(text)))
		if err != nil {
			panic(fmt.Sprintf("read the clock %s: %v", file, err))
		}
		return now.Add(d)
	}
}

// Set changes a clock, at once and for whoever has it open.
func Set(file string, ahead time.Duration) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file))
	if err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	_, errWrite := f.WriteString(ahead.String())
	if err := errors.Join(errWrite, f.Close()); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return os.Rename(f.Name(), file)
}
