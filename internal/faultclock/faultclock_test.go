package faultclock

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "clock")
	now := Open(file)
	ahead := func() time.Duration { return now().Sub(time.Now().Round(0)).Round(time.Minute) }
	if d := ahead(); d != 0 {
		t.Errorf("without a file the clock is %v ahead", d)
	}
	for _, want := range []time.Duration{time.Hour, -24 * time.Hour, 0} {
		if err := Set(file, want); err != nil {
			t.Fatal(err)
		}
		if d := ahead(); d != want {
			t.Errorf("the clock is %v ahead, want %v", d, want)
		}
	}
	if err := os.WriteFile(file, []byte("soon"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a file that is not understood is taken")
		}
	}()
	now()
}
