//go:build unix

package durable

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // EINVAL: not here
		return err
	}
	return nil
}

// ErrLocked: another process has the directory.
var ErrLocked = errors.New("another process is using the directory")

// Lock takes a directory for this process until the lock is closed or the process
// ends, however it ends. The file is locked with flock, which belongs to the open
// file: two owners within one process exclude each other too.
func Lock(dir string) (*os.File, error) {
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, syscall.EROFS) {
		f, err = os.Open(name) // what there is can still be read and sent
	}
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, ErrLocked
	}
	return nil, os.NewSyscallError("flock", err)
}
