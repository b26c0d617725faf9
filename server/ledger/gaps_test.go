package ledger

import (
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestLedger_Gaps: windows that newer totals pass over are missing until they come,
// whatever they bring, and for ever if their epoch is closed first.
func TestLedger_Gaps(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		r := start(t, dsn, Options{})
		want := func(what string, missing, skipped, late float64) {
			t.Helper()
			got := [3]float64{float64(r.loaded().MissingWindows), r.total(SkippedWindows), r.total(LateWindows)}
			if got != [3]float64{missing, skipped, late} {
				t.Errorf("%s: missing, skipped, late are %v, want %v", what, got, [3]float64{missing, skipped, late})
			}
		}
		at := t0
		send := func(seq uint64, values ...float64) {
			t.Helper()
			at = at.Add(time.Second)
			wantRefused(t, r.commit(submission(at, window(epoch1, seq, values...))), "")
		}
		send(1, 1)
		send(2, 2)
		want("nothing passed over", 0, 0, 0)
		send(7, 7)
		want("3 to 6 passed over", 4, 4, 0)
		send(4) // history
		send(4)
		send(5, 5) // late totals change nothing, but the window is there
		want("4 and 5 came", 2, 4, 2)
		r.close()
		r = start(t, dsn, Options{})
		send(3)
		send(2)
		want("3 came after a restart", 1, 4, 3)
		s := submission(at.Add(time.Minute), window(epoch2, 3, 1))
		s.NoOlderEpochPending = true
		r.commit(s)
		want("two of a new epoch, and the old one is closed", 3, 6, 3)
		wantRefused(t, r.commit(submission(at.Add(time.Hour), window(epoch1, 6))), RefusedClosedEpoch)
		want("too late", 3, 6, 3)
	})
}

// TestLedger_GapsAreBounded: the oldest ones are forgotten, and stay missing.
func TestLedger_GapsAreBounded(t *testing.T) {
	r := start(t, filepath.Join(t.TempDir(), "x.db"), Options{})
	for i := uint64(1); i <= 2*maxGaps; i++ {
		r.commit(submission(t0.Add(time.Duration(i)*time.Second), window(epoch1, 2*i, float64(i))))
	}
	for i := uint64(1); i <= 2*maxGaps; i++ {
		r.commit(submission(t0.Add(time.Hour), window(epoch1, 2*i-1)))
	}
	if n := r.loaded().MissingWindows; n != maxGaps {
		t.Errorf("%d windows are missing, want %d", n, maxGaps)
	}
}

func FuzzDecodeGaps(f *testing.F) {
	f.Add([]byte{})
	f.Add(gaps{{1, 1}, {3, 9}, {100, maxSequence}}.encode())
	f.Add([]byte{1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := decodeGaps(b)
		if err != nil {
			return
		}
		for i, x := range g {
			if x.first == 0 || x.first > x.last || x.last > math.MaxInt64 || i > 0 && x.first <= g[i-1].last {
				t.Fatalf("%v", g)
			}
		}
		again, err := decodeGaps(g.encode())
		if err != nil || !slices.Equal(again, g) {
			t.Fatalf("%v became %v, error %v", g, again, err)
		}
	})
}
