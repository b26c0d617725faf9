package testtool

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// leakPatience is how long goroutines may take to end after the last test. goleak itself
// waits for half a second, which is not much on a machine that is busy.
const leakPatience = 20 * time.Second

// Main runs the tests of a package, which may leave no goroutines.
func Main(m *testing.M) {
	code := m.Run()
	if err := Leaks(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// Leaks returns an error about goroutines that do not end.
func Leaks() error {
	for deadline := time.Now().Add(leakPatience); ; {
		err := goleak.Find()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
