//go:build unix

package agentssh

import (
	"errors"
	"os"
	"syscall"
)

// signalOf translates the name of a signal. A client that sends what nobody
// knows wants the process to end.
func signalOf(name string) os.Signal {
	switch name {
	case "ABRT":
		return syscall.SIGABRT
	case "ALRM":
		return syscall.SIGALRM
	case "FPE":
		return syscall.SIGFPE
	case "HUP":
		return syscall.SIGHUP
	case "ILL":
		return syscall.SIGILL
	case "INT":
		return syscall.SIGINT
	case "PIPE":
		return syscall.SIGPIPE
	case "QUIT":
		return syscall.SIGQUIT
	case "SEGV":
		return syscall.SIGSEGV
	case "TERM":
		return syscall.SIGTERM
	case "USR1":
		return syscall.SIGUSR1
	case "USR2":
		return syscall.SIGUSR2
	}
	return syscall.SIGKILL
}

func isNoSuchProcess(err error) bool { return errors.Is(err, syscall.ESRCH) }

// isEndOfTerminal says that nobody has the other side of a terminal open.
func isEndOfTerminal(err error) bool { return errors.Is(err, syscall.EIO) }
