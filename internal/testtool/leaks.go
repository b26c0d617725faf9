package testtool

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main runs the tests of the binary and ends the process; a goroutine that is left
// over fails a run that passed.
func Main(m *testing.M) {
	code := m.Run()
	if err := Leaks(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// Leaks returns the goroutines that go on. They have some time to end: goleak by itself
// waits less than half a second, in which a slow machine may do nothing.
func Leaks() error {
	for end := time.Now().Add(10 * time.Second); ; {
		if err := goleak.Find(); err == nil || time.Now().After(end) {
			return err
		}
	}
}
