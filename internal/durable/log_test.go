package durable_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/worktally/worktally/internal/durable"
	"github.com/worktally/worktally/internal/durable/faultfs"
)

func openLog(t failer, fs durable.FS, limit int64) (*durable.Log, []durable.Aside) {
	t.Helper()
	l, aside, err := durable.OpenLog(fs, "/state", "history", format, limit)
	if err != nil {
		t.Fatal(err)
	}
	return l, aside
}

func payloads(l *durable.Log) (ids []durable.ID, texts []string) {
	entries, _ := l.Oldest(1 << 20)
	for _, e := range entries {
		ids, texts = append(ids, e.ID), append(texts, string(e.Payload))
	}
	return ids, texts
}

// TestLog_CrashAnywhere compares a log with a list, while operations fail and the
// machine crashes: what was said to be appended is there until it is removed,
// What failed, and what was removed, may come back after a crash.
func TestLog_CrashAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		fs := faultfs.New()
		l, _ := openLog(t, fs, 1<<20)
		var model []string
		n := 0
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"append", "append", "append", "remove", "fail", "heal", "crash", "reopen"}).Draw(t, "step") {
			case "append":
				var batch [][]byte
				var texts []string
				for range rapid.IntRange(1, 3).Draw(t, "batch") {
					n++
					text := fmt.Sprintf("%05d%s", n, bytes.Repeat([]byte{'.'}, rng.IntN(3000)))
					batch, texts = append(batch, []byte(text)), append(texts, text)
				}
				if _, _, err := l.Append(batch...); err == nil {
					model = append(model, texts...)
				}
			case "remove":
				ids, texts := payloads(l)
				for i := range ids {
					if rng.IntN(2) == 0 {
						l.Remove(ids[i : i+1])
						model = slices.DeleteFunc(model, func(s string) bool { return s == texts[i] })
					}
				}
			case "fail":
				fs.Fail(func(int, string) error {
					if rng.IntN(3) == 0 {
						return syscall.ENOSPC
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
				l.Close()
				var aside []durable.Aside
				l, aside = openLog(t, fs, 1<<20)
				for _, a := range aside {
					t.Logf("aside %s: %v", a.Name, a.Err)
				}
				_, got := payloads(l)
				for _, text := range model {
					if !slices.Contains(got, text) {
						t.Fatalf("%.5s was written and is gone", text)
					}
				}
			}
			if l.Len() < len(model) {
				t.Fatalf("%d entries, %d were written", l.Len(), len(model))
			}
		}
	})
}

func TestLog_FullDropsTheOldest(t *testing.T) {
	fs := faultfs.New()
	const limit = 64 << 10
	l, _ := openLog(t, fs, limit)
	written, dropped := 0, 0
	for i := range 400 {
		_, d, err := l.Append(fmt.Appendf(nil, "%04d%s", i, bytes.Repeat([]byte{'.'}, 500)))
		if err != nil {
			t.Fatal(err)
		}
		written, dropped = written+1, dropped+d
	}
	_, texts := payloads(l)
	if len(texts) != written-dropped || l.Len() != len(texts) || dropped == 0 {
		t.Fatalf("%d written, %d dropped, %d left, Len %d", written, dropped, len(texts), l.Len())
	}
	if first := fmt.Sprintf("%04d", dropped); texts[0][:4] != first {
		t.Fatalf("the oldest is %s, not %s", texts[0][:4], first)
	}
	if l.Bytes() > limit {
		t.Fatalf("%d bytes", l.Bytes())
	}
	if size := total(fs); size > limit {
		t.Fatalf("%d bytes on disk", size)
	}
}

func total(fs *faultfs.FS) (n int) {
	for _, b := range fs.Files() {
		n += len(b)
	}
	return n
}

func TestLog_EmptyLeavesNoFiles(t *testing.T) {
	fs := faultfs.New()
	l, _ := openLog(t, fs, 1<<20)
	for range 3 {
		ids, _, err := l.Append([]byte("one"), []byte("two"))
		if err != nil {
			t.Fatal(err)
		}
		l.Remove(ids)
		l.Remove(ids) // again is no error
		if n := len(fs.Files()); n != 0 || l.Len() != 0 || l.Bytes() != 0 {
			t.Fatalf("%d files, %d entries, %d bytes", n, l.Len(), l.Bytes())
		}
	}
}

// TestLog_EveryTruncationAndFlip: damage costs the frame that it hits and, if that
// frame's length is hit, those after it in the segment.
func TestLog_EveryTruncationAndFlip(t *testing.T) {
	fs := faultfs.New()
	l, _ := openLog(t, fs, 1<<20)
	want := []string{"the first of them", "the second", "the third and last"}
	for _, text := range want {
		if _, _, err := l.Append([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	const name = "/state/history-0000000000000001"
	whole := fs.Files()[name]
	reopen := func(content []byte) []string {
		damaged := faultfs.New()
		damaged.Set(name, content)
		l, _ := openLog(t, damaged, 1<<20)
		defer l.Close()
		if _, _, err := l.Append([]byte("new")); err != nil {
			t.Fatal(err)
		}
		_, texts := payloads(l)
		if texts[len(texts)-1] != "new" {
			t.Fatalf("%q: the new one is not last", texts)
		}
		return texts[:len(texts)-1]
	}
	ends := []int{16 + 12 + 17, 16 + 12 + 17 + 12 + 10}
	for n := range whole {
		complete := 0
		for _, end := range ends {
			if n >= end {
				complete++
			}
		}
		if diff := cmp.Diff(want[:complete], reopen(whole[:n]), cmp.Transformer("", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
			t.Fatalf("cut to %d bytes (-want +got):\n%s", n, diff)
		}
	}
	for bit := range 8 * len(whole) {
		flipped := slices.Clone(whole)
		flipped[bit/8] ^= 1 << (bit % 8)
		for _, text := range reopen(flipped) {
			if !slices.Contains(want, text) {
				t.Fatalf("bit %d: %q was never written", bit, text)
			}
		}
		if n := len(reopen(flipped)); bit/8 >= ends[1] && n != 2 {
			t.Fatalf("bit %d of the last frame: %d frames are left", bit, n)
		}
	}
}

func TestLog_OtherFormatIsSetAside(t *testing.T) {
	fs := faultfs.New()
	newer, _, err := durable.OpenLog(fs, "/state", "history", format+1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := newer.Append([]byte("of tomorrow")); err != nil {
		t.Fatal(err)
	}
	newer.Close()
	l, aside := openLog(t, fs, 1<<20)
	if len(aside) != 1 || aside[0].Name != "history-0000000000000001.aside-format-2" || l.Len() != 0 {
		t.Fatalf("aside %v, %d entries", aside, l.Len())
	}
}

// TestLog_DamageInTheMiddleIsKeptForAHuman: the rest is delivered, and the file is
// not deleted.
func TestLog_DamageInTheMiddleIsKeptForAHuman(t *testing.T) {
	fs := faultfs.New()
	l, _ := openLog(t, fs, 1<<20)
	if _, _, err := l.Append([]byte("one"), []byte("two"), []byte("three")); err != nil {
		t.Fatal(err)
	}
	l.Close()
	const name = "/state/history-0000000000000001"
	b := fs.Files()[name]
	b[16+12+3+12] ^= 1 // in "two"
	fs.Set(name, b)
	l, aside := openLog(t, fs, 1<<20)
	ids, texts := payloads(l)
	if diff := cmp.Diff([]string{"one", "three"}, texts); diff != "" || len(aside) != 1 {
		t.Fatalf("aside %v (-want +got):\n%s", aside, diff)
	}
	l.Remove(ids)
	if _, ok := fs.Files()[name+".aside-damaged"]; !ok || l.Len() != 0 {
		t.Fatalf("%d entries, files %v", l.Len(), fs.Files())
	}
}

func FuzzLog(f *testing.F) {
	fs := faultfs.New()
	l, _ := openLog(f, fs, 1<<20)
	if _, _, err := l.Append([]byte("one"), []byte("two")); err != nil {
		f.Fatal(err)
	}
	f.Add(fs.Files()["/state/history-0000000000000001"])
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := faultfs.New()
		fs.Set("/state/history-0000000000000001", b)
		l, _ := openLog(t, fs, 1<<20)
		before := l.Len()
		if _, _, err := l.Append([]byte("new")); err != nil {
			t.Fatal(err)
		}
		ids, texts := payloads(l)
		if len(texts) != before+1 || texts[before] != "new" {
			t.Fatalf("%d entries before, now %q", before, texts)
		}
		l.Remove(ids)
		if l.Len() != 0 {
			t.Fatalf("%d entries are left", l.Len())
		}
	})
}
