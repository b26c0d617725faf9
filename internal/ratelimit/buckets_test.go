package ratelimit

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New[string](3, time.Second, 10)
		took := func(key string, tries int) (n int) {
			for range tries {
				if left := b.Left(key); left != b.Take(key) {
					t.Error("Left and Take differ")
				} else if left {
					n++
				}
			}
			return n
		}
		if n := took("a", 10); n != 3 {
			t.Errorf("%d at once", n)
		}
		if n := took("b", 10); n != 3 {
			t.Errorf("%d of another key", n)
		}
		time.Sleep(1500 * time.Millisecond)
		if n := took("a", 10); n != 1 {
			t.Errorf("%d after 1.5 s", n)
		}
		time.Sleep(500 * time.Millisecond) // what was refused has cost nothing
		if n := took("a", 10); n != 1 {
			t.Errorf("%d after 2 s", n)
		}
		time.Sleep(time.Hour)
		if n := took("a", 10); n != 3 {
			t.Errorf("%d after an hour", n)
		}
	})
}

func TestBuckets_AreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New[int](2, time.Second, 10)
		for i := range 100 {
			b.Take(i)
		}
		if b.Len() != 10 {
			t.Errorf("%d keys", b.Len())
		}
		time.Sleep(time.Second)
		b.Take(100) // makes room by forgetting the full ones
		if b.Len() != 1 {
			t.Errorf("%d keys, want 1", b.Len())
		}
	})
}
