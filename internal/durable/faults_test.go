package durable_test

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/worktally/worktally/internal/durable"
	"github.com/worktally/worktally/internal/durable/faultfs"
)

// TestSlots_FailedWriteMayBeWhole: what a write that fails leaves out may be what was
// there before, and then the value is on the disk. The error must say so.
func TestSlots_FailedWriteMayBeWhole(t *testing.T) {
	disk := faultfs.New()
	s, _, _ := openSlots(t, disk)
	text := func(first string) []byte { return []byte(first + strings.Repeat(".", 100)) }
	for _, first := range []string{"a", "b"} {
		if err := s.Write(text(first)); err != nil {
			t.Fatal(err)
		}
	}
	disk.Fail(func(_ int, what string) error {
		if what == "write" {
			return syscall.EIO
		}
		return nil
	})
	err := s.Write(text("c"))
	s.Close()
	_, newest, _ := openSlots(t, disk)
	if !bytes.Equal(newest, text("c")) {
		t.Fatalf("%q is back", newest)
	}
	if !errors.Is(err, durable.ErrUncertain) {
		t.Errorf("error %v", err)
	}
}

// noFiles is a file system for a process without a descriptor left.
type noFiles struct{ durable.FS }

func (noFiles) Open(name string, _ bool) (durable.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
}

// switched is a file system that can be replaced.
type switched struct{ durable.FS }

// TestLog_NoDescriptorLeft is no damage: what cannot be opened now is there later.
func TestLog_NoDescriptorLeft(t *testing.T) {
	disk := faultfs.New()
	through := &switched{disk}
	l, _ := openLog(t, through, 1<<20)
	if _, _, err := l.Append([]byte("one")); err != nil {
		t.Fatal(err)
	}
	through.FS = noFiles{disk}
	if entries, lost := l.Oldest(10); len(entries) != 0 || lost != 0 {
		t.Errorf("%d entries, %d lost", len(entries), lost)
	}
	if _, aside, err := durable.OpenLog(through, "/state", "history", format, 1<<20); err == nil || len(aside) != 0 {
		t.Errorf("opened, aside %v", aside)
	}
	through.FS = disk
	if _, texts := payloads(l); len(texts) != 1 {
		t.Errorf("%q is left", texts)
	}
}
