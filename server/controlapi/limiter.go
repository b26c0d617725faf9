package controlapi

import (
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"
)

const (
	// failureBurst is how many invalid tokens one address may send at once.
	failureBurst = 20
	// failureEvery is how long it takes until it may send one more.
	failureEvery = 10 * time.Second
	// maxAddresses bounds the addresses that are remembered, maxGood the tokens.
	maxAddresses = 4096
	maxGood      = 1024
)

// limiter slows down who tries tokens: a token bucket per address that only
// failures empty. Tokens that were valid before are let through regardless, so
// that people behind the same proxy as somebody who guesses are not locked out;
// they are looked up like any other. The buckets of IPv6 are networks of 64 bits.
type limiter struct {
	mu      sync.Mutex
	buckets map[netip.Prefix]bucket
	good    map[[sha256.Size]byte]struct{}
}

// bucket holds how many failures are left at a time.
type bucket struct {
	left float64
	at   time.Time
}

func newLimiter() *limiter {
	return &limiter{buckets: map[netip.Prefix]bucket{}, good: map[[sha256.Size]byte]struct{}{}}
}

// allow reports whether a token of that address may be looked up.
func (l *limiter) allow(remote, token string) bool {
	key := network(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.good[sha256.Sum256([]byte(token))]; known {
		return true
	}
	b, known := l.buckets[key]
	return !known || b.now(time.Now()).left >= 1
}

// now returns the bucket with what has flowed in since.
func (b bucket) now(t time.Time) bucket {
	return bucket{left: min(failureBurst, b.left+t.Sub(b.at).Seconds()/failureEvery.Seconds()), at: t}
}

// failed takes one failure from the address.
func (l *limiter) failed(remote, token string) {
	key, now := network(remote), time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.good, sha256.Sum256([]byte(token)))
	b, known := l.buckets[key]
	if !known {
		b = bucket{left: failureBurst, at: now}
	}
	b = b.now(now)
	b.left = max(0, b.left-1)
	if !known && len(l.buckets) >= maxAddresses {
		l.evictLocked(now)
	}
	l.buckets[key] = b
}

// evictLocked drops the buckets that are full again, or any one.
func (l *limiter) evictLocked(now time.Time) {
	for key, b := range l.buckets {
		if b.now(now).left >= failureBurst {
			delete(l.buckets, key)
		}
	}
	for key := range l.buckets {
		if len(l.buckets) < maxAddresses {
			return
		}
		delete(l.buckets, key)
	}
}

// succeeded remembers a token that is valid.
func (l *limiter) succeeded(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for old := range l.good {
		if len(l.good) < maxGood {
			break
		}
		delete(l.good, old)
	}
	l.good[sha256.Sum256([]byte(token))] = struct{}{}
}

// network returns whose bucket an address uses.
func network(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{} // all that cannot be told apart share one
	}
	addr, bits := ap.Addr().Unmap().WithZone(""), 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits)
	return p
}
