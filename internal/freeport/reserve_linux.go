package freeport

import (
	"fmt"
	"syscall"
)

// reserve takes a port for this process among those that ask here. The name of a socket
// stands for it, which the system gives back when the process ends, however it does.
func reserve(port int) error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: fmt.Sprintf("@worktally-port-%d", port)}); err != nil {
		_ = syscall.Close(fd)
		return fmt.Errorf("port %d is somebody's: %w", port, err)
	}
	return nil // it stays open
}
