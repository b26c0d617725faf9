// Package ratelimit has token buckets by key.
package ratelimit

import "time"

// Buckets give every key so many events at once, and then one each time that a while
// has gone by. They are bounded in number: when there are too many, those that are full
// again are forgotten, which changes nothing, and then any. They are not safe for
// concurrent use.
type Buckets[K comparable] struct {
	burst float64
	every time.Duration
	bound int
	of    map[K]bucket
}

// bucket holds how many events are left at a time.
type bucket struct {
	left float64
	at   time.Time
}

// New returns full buckets: burst events at once, one more after every, and no more
// than bound keys that are remembered.
func New[K comparable](burst int, every time.Duration, bound int) *Buckets[K] {
	return &Buckets[K]{burst: float64(burst), every: every, bound: bound, of: make(map[K]bucket)}
}

// Len returns how many keys are remembered.
func (b *Buckets[K]) Len() int { return len(b.of) }

// Left says whether the key has an event left.
func (b *Buckets[K]) Left(key K) bool { return b.now(key, time.Now()) >= 1 }

// Take takes an event from the key, if it has one left.
func (b *Buckets[K]) Take(key K) bool {
	now := time.Now()
	left := b.now(key, now)
	if left < 1 {
		return false
	}
	if _, known := b.of[key]; !known && len(b.of) >= b.bound {
		b.evict(now)
	}
	b.of[key] = bucket{left - 1, now}
	return true
}

// now returns what is left of a key's events, with what has flowed in since.
func (b *Buckets[K]) now(key K, t time.Time) float64 {
	k, known := b.of[key]
	if !known {
		return b.burst
	}
	return min(b.burst, k.left+t.Sub(k.at).Seconds()/b.every.Seconds())
}

// evict forgets the buckets that are full again, or any one.
func (b *Buckets[K]) evict(now time.Time) {
	for key := range b.of {
		if b.now(key, now) >= b.burst {
			delete(b.of, key)
		}
	}
	for key := range b.of {
		if len(b.of) < b.bound {
			return
		}
		delete(b.of, key)
	}
}
