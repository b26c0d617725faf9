package retry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoff_GrowsAndStartsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(100*time.Millisecond, 10*time.Second)
		wait := func() time.Duration {
			start := time.Now()
			if err := b.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		}
		if d := wait(); d < 50*time.Millisecond || d > 150*time.Millisecond {
			t.Errorf("first delay %s", d)
		}
		for range 30 {
			if d := wait(); d > 15*time.Second {
				t.Errorf("delay %s", d)
			}
		}
		if d := wait(); d < 5*time.Second {
			t.Errorf("delay %s after many attempts", d)
		}
		b.Reset()
		if d := wait(); d > 150*time.Millisecond {
			t.Errorf("delay %s after a success", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait = %v", err)
		}
	})
}

func TestLog_IsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := NewLog(slog.New(slog.NewTextHandler(&out, nil)), "dial")
		for range 180 {
			l.Failed(errors.New("no route"))
			time.Sleep(time.Second)
		}
		l.Succeeded()
		l.Succeeded()
		if got := strings.Count(out.String(), "dial failed"); got != 3 {
			t.Errorf("%d failures logged", got)
		}
		if got := strings.Count(out.String(), "dial recovered"); got != 1 {
			t.Errorf("%d recoveries logged", got)
		}
	})
}
