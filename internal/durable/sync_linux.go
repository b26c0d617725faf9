package durable

import (
	"os"
	"syscall"
)

// datasync leaves the time of the last change alone, which spares the file
// system's journal when a slot is written in place.
func datasync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
