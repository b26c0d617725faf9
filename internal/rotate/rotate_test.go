package rotate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestFile_RotatesAndKeepsBackups(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log", "agent.log")
	f, err := Open(path, 100, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if _, err := fmt.Fprintf(f, "line %02d......\n", i); err != nil { // 14 bytes
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	for name, first := range map[string]string{path: "line 35", path + ".1": "line 28", path + ".2": "line 21"} {
		text, err := os.ReadFile(name)
		if err != nil || string(text[:7]) != first || len(text) > 100 {
			t.Errorf("%s: %q %v", filepath.Base(name), text[:7], err)
		}
	}
	if _, err := os.Stat(path + ".3"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a third backup: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	again, err := Open(path, 100, 2)
	if err != nil || again.size != info.Size() {
		t.Errorf("reopened with size %d, want %d: %v", again.size, info.Size(), err)
	}
	_ = again.Close()
}

func TestFile_ConcurrentWritesStayWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.log")
	f, err := Open(path, 1000, 100)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				if _, err := f.Write([]byte("0123456789\n")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	_ = f.Close()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil || len(text)%11 != 0 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
		total += len(text)
	}
	if total != 4*100*11 {
		t.Errorf("%d bytes in all", total)
	}
}
