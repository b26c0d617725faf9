//go:build unix

package agentpty

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// startPTY starts the command as the leader of a session on a new terminal and
// returns our end of it, on which deadlines work.
func startPTY(cmd *exec.Cmd, height, width uint16, nameTTY bool) (*os.File, error) {
	master, tty, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	defer tty.Close() // the process keeps its own; ours would hide the end of output
	ours, err := pollable(master)
	if err != nil {
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	if err := resizePTY(ours, height, width); err != nil {
		ours.Close()
		return nil, err
	}
	if nameTTY {
		cmd.Env = append(cmd.Env, "SSH_TTY="+tty.Name())
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start command: %w", err)
	}
	return ours, nil
}

// pollable replaces f, which the library left in blocking mode: a read of it
// could not be ended by closing it.
func pollable(f *os.File) (*os.File, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// resizePTY sets the size of the terminal; a zero leaves it as it is.
func resizePTY(f *os.File, height, width uint16) error {
	if height == 0 || width == 0 {
		return nil
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	var failure error
	err = raw.Control(func(fd uintptr) {
		failure = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
	if err := errors.Join(err, failure); err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}

// hangUp tells the session that its terminal is gone.
func hangUp(c *exec.Cmd) error {
	err := syscall.Kill(-c.Process.Pid, syscall.SIGHUP)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// endOfOutput says that reading failed because no process has the terminal open
// any more, which is EIO on Linux.
func endOfOutput(err error) bool { return errors.Is(err, syscall.EIO) }

// privateDir makes dir a directory that only we can write to.
func privateDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a directory of ours", dir)
	}
	return nil
}
