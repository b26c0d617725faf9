package testtool

import (
	"os"
	"os/signal"
	"syscall"
)

// MindHangUps is for TestMain: what the tests start ends with SIGHUP, also where nohup
// has started the tests. What is ignored is inherited, what is handled is not.
func MindHangUps() {
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
}
