// Package rotate writes a log file that is renamed away when it has grown.
package rotate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// File is an io.WriteCloser for a log. Its methods are safe for concurrent use.
type File struct {
	path    string
	limit   int64
	backups int

	mu   sync.Mutex
	file *os.File
	size int64
}

// Open opens or creates the file (0600, its directory 0700) for appending. When
// a write would take it beyond limit bytes, it becomes path.1, path.1 becomes
// path.2, and so on, up to the given number of backups.
func Open(path string, limit int64, backups int) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	f := &File{path: path, limit: limit, backups: backups}
	return f, f.open()
}

func (f *File) open() error {
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log file: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return fmt.Errorf("open log file: %w", err)
	}
	f.file, f.size = file, info.Size()
	return nil
}

// Write appends p whole, after rotating if it does not fit.
func (f *File) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return 0, fs.ErrClosed
	}
	if f.size > 0 && f.size+int64(len(p)) > f.limit {
		if err := f.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := f.file.Write(p)
	f.size += int64(n)
	return n, err
}

func (f *File) rotate() error {
	_ = f.file.Close() // everything was written
	f.file = nil
	for i := f.backups; i > 0; i-- {
		from := f.path
		if i > 1 {
			from = f.backup(i - 1)
		}
		if err := os.Rename(from, f.backup(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("rotate log file: %w", err), f.open())
		}
	}
	if f.backups == 0 {
		if err := os.Remove(f.path); err != nil {
			return errors.Join(fmt.Errorf("rotate log file: %w", err), f.open())
		}
	}
	return f.open()
}

func (f *File) backup(i int) string { return fmt.Sprintf("%s.%d", f.path, i) }

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}
