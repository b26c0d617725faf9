//go:build unix

package agentexec

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// Terminal is a new pseudo terminal. Reads of Master end with EIO when nobody
// has the other side open any more, and obey deadlines.
type Terminal struct {
	// Master is our side; whoever opened the terminal closes it.
	Master *os.File
	// Name is the path of the other side.
	Name  string
	slave *os.File
}

// OpenTerminal opens a pseudo terminal.
func OpenTerminal() (*Terminal, error) {
	blocking, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	// The library leaves the descriptor in blocking mode, in which neither a
	// deadline nor Close ends a read. A copy of it can be pollable.
	fd, err := unix.FcntlInt(blocking.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	blocking.Close()
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		slave.Close()
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	return &Terminal{Master: os.NewFile(uintptr(fd), "ptmx"), Name: slave.Name(), slave: slave}, nil
}

// Configure calls f with the descriptor of the other side, before Start.
func (t *Terminal) Configure(f func(fd int) error) error { return control(t.slave, f) }

// Start starts the command in a session of its own with this terminal as its
// controlling one, and closes our copy of the other side, without which the end
// of the output would never be seen.
func (t *Terminal) Start(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.slave, t.slave, t.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	defer t.slave.Close()
	return cmd.Start()
}

// Resize sets the size in characters.
func (t *Terminal) Resize(rows, cols uint16) error {
	return control(t.Master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
}

// Close closes our side, which hangs up the processes on the other.
func (t *Terminal) Close() error {
	t.slave.Close() // closed by Start already, if that was called
	return t.Master.Close()
}

// control runs f without taking the descriptor out of the poller, as File.Fd
// would.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := raw.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		return err
	}
	return result
}

// OwnSession makes the command the leader of a session and a process group of
// its own, without a terminal.
func OwnSession(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// HangUp tells the process group that the process leads to end. One that has
// ended already is os.ErrProcessDone.
func HangUp(p *os.Process) error { return signalGroup(p, syscall.SIGHUP) }

// Kill kills the process group that the process leads. One that has ended
// already is os.ErrProcessDone.
func Kill(p *os.Process) error { return signalGroup(p, syscall.SIGKILL) }

func signalGroup(p *os.Process, s syscall.Signal) error {
	err := syscall.Kill(-p.Pid, s)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}
