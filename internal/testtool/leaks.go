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
func Main(m *testing.M) { os.Exit(Leaks(m.Run())) }

// Leaks returns the exit code of tests that ended with code. If they passed and there
// are goroutines that do not end, it says so and returns 1.
func Leaks(code int) int {
	for deadline := time.Now().Add(leakPatience); ; {
		err := goleak.Find()
		if err != nil && time.Now().Before(deadline) {
			continue
		}
		if err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}
}
