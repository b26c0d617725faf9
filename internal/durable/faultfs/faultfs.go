// Package faultfs is a durable.FS in memory that fails and crashes on command, for
// tests. It keeps what a file system would have on its disk apart from what its
// users see: only Sync and SyncDir carry one to the other, and a crash of the
// machine leaves what was synced and any part of the rest.
package faultfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"

	"github.com/worktally/worktally/internal/durable"
)

// FS is a file system. Its methods are safe for concurrent use.
type FS struct {
	mu    sync.Mutex
	seen  map[string]*inode // what users see, by path
	disk  map[string]*inode // entries that survive a crash
	ops   int
	fails func(op int, name string) error
}

type inode struct {
	data, synced []byte
	// pending are the writes since the last sync.
	pending []write
}

type write struct {
	at   int64
	data []byte // nil truncates
}

// New returns an empty file system.
func New() *FS {
	return &FS{seen: make(map[string]*inode), disk: make(map[string]*inode)}
}

// Fail makes every operation that changes something ask f, which gets the number of
// the operation, from 1, and what it is; nil lets it pass. A failed write may have
// written a part; a failed sync keeps nothing and forgets what it had to write, as
// Linux does. A nil f ends the faults.
func (f *FS) Fail(ask func(op int, name string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = ask
}

// With fails, for Fail, all operations of these kinds, any if none is given.
func With(err error, kinds ...string) func(op int, kind string) error {
	return func(_ int, kind string) error {
		if len(kinds) == 0 || slices.Contains(kinds, kind) {
			return err
		}
		return nil
	}
}

// Ops counts the operations so far that changed something.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

func (f *FS) opLocked(name string) error {
	f.ops++
	if f.fails != nil {
		return f.fails(f.ops, name)
	}
	return nil
}

// Crash returns what is on the disk after a crash of the machine at this moment.
// Whatever was not synced is there, or is not, as the random numbers have it.
func (f *FS) Crash(rng *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	after := New()
	names := slices.Sorted(maps.Keys(f.disk))
	for n := range f.seen {
		if f.disk[n] == nil && rng.IntN(2) == 0 {
			names = append(names, n)
		}
	}
	for _, name := range names {
		node := f.disk[name]
		if node == nil || (f.seen[name] != nil && rng.IntN(2) == 0) {
			node = f.seen[name]
		} else if f.seen[name] == nil && rng.IntN(2) == 0 {
			continue // removed, and the directory happened to be written
		}
		data := slices.Clone(node.synced)
		var written []write
		for _, w := range node.pending {
			if rng.IntN(2) == 0 {
				continue
			}
			if w.data != nil {
				w.data = w.data[:rng.IntN(len(w.data)+1)]
			}
			written = append(written, w)
		}
		data = apply(data, written)
		n := &inode{data: data, synced: slices.Clone(data)}
		after.seen[name], after.disk[name] = n, n
	}
	return after
}

// Files returns the names and contents that users see, and may be changed by Set.
func (f *FS) Files() map[string][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := make(map[string][]byte, len(f.seen))
	for n, node := range f.seen {
		m[n] = slices.Clone(node.data)
	}
	return m
}

// Set writes a file as if it had always been there.
func (f *FS) Set(name string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := &inode{data: slices.Clone(data), synced: slices.Clone(data)}
	f.seen[name], f.disk[name] = n, n
}

var _ durable.FS = (*FS)(nil)

// MkdirAll implements durable.FS.
func (f *FS) MkdirAll(string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opLocked("mkdir")
}

// Open implements durable.FS.
func (f *FS) Open(name string, create bool) (durable.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	node, ok := f.seen[name]
	switch {
	case create && ok:
		return nil, fs.ErrExist
	case create:
		if err := f.opLocked("create"); err != nil {
			return nil, err
		}
		node = &inode{}
		f.seen[name] = node
	case !ok:
		return nil, fs.ErrNotExist
	}
	return &file{fs: f, node: node}, nil
}

// List implements durable.FS.
func (f *FS) List(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for n := range f.seen {
		if filepath.Dir(n) == filepath.Clean(dir) {
			names = append(names, filepath.Base(n))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Rename implements durable.FS.
func (f *FS) Rename(old, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.opLocked("rename"); err != nil {
		return err
	}
	node, ok := f.seen[old]
	if !ok {
		return fs.ErrNotExist
	}
	delete(f.seen, old)
	f.seen[name] = node
	return nil
}

// Remove implements durable.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.seen[name]; !ok {
		return fs.ErrNotExist
	}
	if err := f.opLocked("remove"); err != nil {
		return err
	}
	delete(f.seen, name)
	return nil
}

// Linked implements durable.FS.
func (f *FS) Linked(name string, open durable.File) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[name] == open.(*file).node, nil
}

// SyncDir implements durable.FS.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.opLocked("sync directory"); err != nil {
		return err
	}
	in := func(n string) bool { return filepath.Dir(n) == filepath.Clean(dir) }
	maps.DeleteFunc(f.disk, func(n string, _ *inode) bool { return in(n) && f.seen[n] == nil })
	for n, node := range f.seen {
		if in(n) {
			f.disk[n] = node
		}
	}
	return nil
}

type file struct {
	fs     *FS
	node   *inode
	closed bool
}

var errClosed = errors.New("faultfs: file is closed")

func (f *file) ReadAt(b []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return 0, errClosed
	}
	if at >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(b []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return 0, errClosed
	}
	err := f.fs.opLocked("write")
	if err != nil {
		b = b[:len(b)/2]
	}
	f.node.data = overwrite(f.node.data, at, b)
	f.node.pending = append(f.node.pending, write{at, append([]byte{}, b...)})
	return len(b), err
}

func (f *file) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return errClosed
	}
	if err := f.fs.opLocked("truncate"); err != nil {
		return err
	}
	f.node.data = resize(f.node.data, size)
	f.node.pending = append(f.node.pending, write{at: size})
	return nil
}

func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return errClosed
	}
	if err := f.fs.opLocked("sync"); err != nil {
		f.node.pending = nil
		return err
	}
	f.node.synced = apply(f.node.synced, f.node.pending)
	f.node.pending = nil
	return nil
}

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.data)), nil
}

func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.closed = true
	return nil
}

func apply(data []byte, writes []write) []byte {
	for _, w := range writes {
		if w.data == nil {
			data = resize(data, w.at)
			continue
		}
		data = overwrite(data, w.at, w.data)
	}
	return data
}

func resize(data []byte, size int64) []byte {
	if int64(len(data)) >= size {
		return data[:size]
	}
	return append(data, make([]byte, size-int64(len(data)))...)
}

func overwrite(data []byte, at int64, b []byte) []byte {
	if end := at + int64(len(b)); int64(len(data)) < end {
		data = resize(data, end)
	}
	copy(data[at:], b)
	return data
}
