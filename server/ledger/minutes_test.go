package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestEachHour_MarksExactlyTheMinutesThatBegin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := t0.Add(time.Duration(rapid.Int64Range(-3*int64(time.Hour), 3*int64(time.Hour)).Draw(t, "start")))
		length := time.Duration(rapid.Int64Range(0, 3*int64(time.Hour)).Draw(t, "length"))
		if rapid.Bool().Draw(t, "whole minutes") {
			start, length = start.Truncate(time.Minute), length.Truncate(time.Minute)
		}
		end := start.Add(length)
		want := map[int64]uint64{}
		for m := start.Truncate(time.Minute); !m.After(end); m = m.Add(time.Minute) {
			if m.After(start) {
				want[floorDiv(m.Unix(), 3600)] |= 1 << m.Minute()
			}
		}
		got := map[int64]uint64{}
		eachHour(start, end, func(hour int64, mask uint64) { got[hour] |= mask })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(%v, %v] (-want +got):\n%s", start, end, diff)
		}
	})
}

func TestMinutes_AppsAreBounded(t *testing.T) {
	var m minutes
	for i := range 3 * maxHourApps {
		m = m.add(fmt.Sprintf("app%03d", i), 1<<(i%60))
	}
	if len(m) != maxHourApps+1 {
		t.Errorf("%d apps, want %d and the overflow", len(m), maxHourApps)
	}
	if m.asMap()[overflowApp] == 0 {
		t.Error("the overflow has no minutes")
	}
}

func FuzzDecodeMinutes(f *testing.F) {
	f.Add([]byte{})
	f.Add(minutes{}.add("ssh", 5).add("vscode", 1<<59).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMinutes(b)
		if err != nil {
			return
		}
		again, err := decodeMinutes(m.encode())
		if err != nil || !cmp.Equal(m, again, cmp.AllowUnexported(appMinutes{})) {
			t.Fatalf("%v became %v, %v", m, again, err)
		}
	})
}

func FuzzDecodeRecent(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeRecent([]RecentWindow{{End: t0, RxBytes: 1, TxBytes: 2}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodeRecent(b)
		if err != nil {
			return
		}
		again, err := decodeRecent(encodeRecent(list))
		if err != nil || !cmp.Equal(list, again) {
			t.Fatalf("%v became %v, %v", list, again, err)
		}
	})
}
