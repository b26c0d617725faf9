package durable_test

import (
	"bytes"
	"syscall"
	"testing"

	"github.com/worktally/worktally/internal/durable"
)

// TestLock_ReadOnlyFileSystem: a disk that has become read-only still says what
// there was.
func TestLock_ReadOnlyFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
	lock, err := durable.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, _, _, err := durable.OpenSlots(durable.OS{}, dir, "totals", format)
	if err != nil || s.Write(value(1)) != nil {
		t.Fatal("cannot write")
	}
	s.Close()
	_ = lock.Close()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	if lock, err = durable.Lock(dir); err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := (durable.OS{}).MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, newest, _, err := durable.OpenSlots(durable.OS{}, dir, "totals", format); err != nil || !bytes.Equal(newest, value(1)) {
		t.Errorf("%q, %v", newest, err)
	}
}
