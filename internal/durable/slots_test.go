package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/worktally/worktally/internal/durable"
	"github.com/worktally/worktally/internal/durable/faultfs"
)

const format = 1

// failer is a test, or one of many drawings of it.
type failer interface {
	Helper()
	Fatal(...any)
}

func openSlots(t failer, fs durable.FS) (*durable.Slots, []byte, []durable.Aside) {
	t.Helper()
	s, newest, aside, err := durable.OpenSlots(fs, "/state", "totals", format)
	if err != nil {
		t.Fatal(err)
	}
	return s, newest, aside
}

func value(i int) []byte {
	return []byte(fmt.Sprintf("value %d %s", i, bytes.Repeat([]byte{'x'}, i%50)))
}

func TestSlots_NewestComesBack(t *testing.T) {
	fs := faultfs.New()
	s, newest, _ := openSlots(t, fs)
	if newest != nil {
		t.Fatalf("an empty directory has %q", newest)
	}
	for i := range 5 {
		if err := s.Write(value(i)); err != nil {
			t.Fatal(err)
		}
		again, newest, aside := openSlots(t, fs)
		again.Close()
		if !bytes.Equal(newest, value(i)) || aside != nil {
			t.Fatalf("%q after writing %q, aside %v", newest, value(i), aside)
		}
	}
}

// TestSlots_CrashAnywhere: whatever fails and whenever the machine crashes, what
// comes back is the last value that was said to be written, or one that was tried
// after it.
func TestSlots_CrashAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		fs := faultfs.New()
		s, _, _ := openSlots(t, fs)
		sure, tried := -1, -1
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"write", "write", "write", "fail", "heal", "crash", "reopen"}).Draw(t, "step") {
			case "write":
				tried++
				if s.Write(value(tried)) == nil {
					sure = tried
				}
			case "fail":
				fs.Fail(func(int, string) error {
					if rng.IntN(3) == 0 {
						return syscall.EIO
					}
					return nil
				})
			case "heal":
				fs.Fail(nil)
			case "crash":
				fs = fs.Crash(rng)
				fallthrough
			case "reopen":
				fs.Fail(nil)
				s.Close()
				var newest []byte
				s, newest, _ = openSlots(t, fs)
				got := -1
				for i := range tried + 1 {
					if bytes.Equal(newest, value(i)) {
						got = i
					}
				}
				if got < sure || newest != nil && got < 0 {
					t.Fatalf("%q is back; %q was written for sure", newest, value(sure))
				}
			}
		}
	})
}

// TestSlots_EveryTruncationAndFlip: damage of one slot costs at most the newest
// value, never both.
func TestSlots_EveryTruncationAndFlip(t *testing.T) {
	fs := faultfs.New()
	s, _, _ := openSlots(t, fs)
	for i := range 2 {
		if err := s.Write(value(i)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	const newest = "/state/totals-b"
	whole := fs.Files()[newest]
	if len(whole) == 0 {
		t.Fatalf("the second value is not in the second slot: %v", fs.Files())
	}
	check := func(name string, content []byte) {
		t.Helper()
		damaged := faultfs.New()
		for n, b := range fs.Files() {
			damaged.Set(n, b)
		}
		damaged.Set(newest, content)
		s, got, aside := openSlots(t, damaged)
		defer s.Close()
		if !bytes.Equal(got, value(0)) || len(aside) != 1 {
			t.Fatalf("%s: %q is back, aside %v", name, got, aside)
		}
		if err := s.Write(value(7)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if damaged.Files()["/state/"+aside[0].Name] == nil {
			t.Fatalf("%s: nothing was set aside as %s", name, aside[0].Name)
		}
	}
	for n := range whole {
		check(fmt.Sprintf("cut to %d bytes", n), whole[:n])
	}
	for bit := range 8 * len(whole) {
		if at := bit / 8; at >= 10 && at < 16 {
			continue // reserved, but covered by the checksum: checked below
		}
		flipped := slices.Clone(whole)
		flipped[bit/8] ^= 1 << (bit % 8)
		check(fmt.Sprintf("bit %d flipped", bit), flipped)
	}
}

func TestSlots_OtherFormatIsSetAside(t *testing.T) {
	fs := faultfs.New()
	newer, _, _, err := durable.OpenSlots(fs, "/state", "totals", format+1)
	if err != nil || newer.Write([]byte("of tomorrow")) != nil {
		t.Fatal("cannot write")
	}
	newer.Close()
	s, newest, aside := openSlots(t, fs)
	defer s.Close()
	if newest != nil || len(aside) != 1 || aside[0].Name != "totals-a.aside-format-2" || aside[0].Err.Error() != "format 2" {
		t.Fatalf("%q, aside %v", newest, aside)
	}
	if err := s.Write(value(1)); err != nil {
		t.Fatal(err)
	}
}

func TestSlots_RefusesWhatIsTooLong(t *testing.T) {
	s, _, _ := openSlots(t, faultfs.New())
	if err := s.Write(make([]byte, 5<<20)); err == nil {
		t.Fatal("written")
	}
}

func TestLock_ExcludesOthersUntilItIsClosed(t *testing.T) {
	dir := t.TempDir()
	first, err := durable.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.Lock(dir); !errors.Is(err, durable.ErrLocked) {
		t.Fatalf("a second lock: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := durable.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = second.Close()
}

// TestOS_IsWhatTheFakeIs runs both packages' users on the real file system.
func TestOS_IsWhatTheFakeIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "down")
	if err := (durable.OS{}).MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		s, newest, aside, err := durable.OpenSlots(durable.OS{}, dir, "totals", format)
		if err != nil || aside != nil || i > 0 && !bytes.Equal(newest, value(i-1)) {
			t.Fatalf("%q %v %v", newest, aside, err)
		}
		l, aside, err := durable.OpenLog(durable.OS{}, dir, "history", format, 1<<20)
		if err != nil || aside != nil || l.Len() != i {
			t.Fatalf("%d entries, %v %v", l.Len(), aside, err)
		}
		if err := s.Write(value(i)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Append(value(i)); err != nil {
			t.Fatal(err)
		}
		s.Close()
		l.Close()
	}
}

func FuzzSlots(f *testing.F) {
	fs := faultfs.New()
	s, _, _ := openSlots(f, fs)
	if err := s.Write(value(3)); err != nil {
		f.Fatal(err)
	}
	f.Add(fs.Files()["/state/totals-a"])
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := faultfs.New()
		fs.Set("/state/totals-a", b)
		s, _, _ := openSlots(t, fs)
		if err := s.Write(value(1)); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if _, newest, _ := openSlots(t, fs); !bytes.Equal(newest, value(1)) {
			t.Fatalf("%q is back", newest)
		}
	})
}
