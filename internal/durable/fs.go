package durable

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// FS is the part of a file system that this package uses. Names are paths.
type FS interface {
	// MkdirAll makes a directory, and those above it, for its owner alone.
	MkdirAll(dir string) error
	// Open opens a file for reading and writing; create makes it, for its owner
	// alone, and fails if it is there.
	Open(name string, create bool) (File, error)
	// List returns the names of the files in a directory, without the directory.
	List(dir string) ([]string, error)
	Rename(old, name string) error
	Remove(name string) error
	// Linked says whether the name is that of an open file of this FS.
	Linked(name string, f File) (bool, error)
	// SyncDir makes what was created, renamed and removed in a directory survive a
	// crash of the machine.
	SyncDir(dir string) error
}

// File is an open file of an FS.
type File interface {
	io.ReaderAt
	io.WriterAt
	Size() (int64, error)
	Truncate(size int64) error
	// Sync makes the content survive a crash of the machine.
	Sync() error
	Close() error
}

// outOfFiles says that no file could be opened just now, which tells nothing about
// the one that was to be.
func outOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// OS is the file system of the operating system.
type OS struct{}

var _ FS = OS{}

// MkdirAll implements FS.
func (OS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

// Open implements FS.
func (OS) Open(name string, create bool) (File, error) {
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil && !create && !errors.Is(err, os.ErrNotExist) {
		// A disk that has become read-only still says what there was.
		f, err = os.Open(name)
	}
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// List implements FS.
func (OS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Rename implements FS.
func (OS) Rename(old, name string) error { return os.Rename(old, name) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// Linked implements FS.
func (OS) Linked(name string, f File) (bool, error) {
	ours, err := f.(osFile).Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(there, ours), err
}

// SyncDir implements FS.
func (OS) SyncDir(dir string) error { return syncDir(dir) }

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Sync() error { return datasync(f.File) }
