// Package loginlimit slows down who tries tokens.
package loginlimit

import (
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"github.com/worktally/worktally/internal/ratelimit"
)

// maxAddresses bounds the addresses that are remembered.
const maxAddresses = 4096

// Options are the bounds of a Limiter.
type Options struct {
	// Burst is how many invalid tokens one address may send at once, Every how long
	// it takes until it may send one more. Both are required.
	Burst int
	Every time.Duration
	// MaxGood bounds the valid tokens that are remembered. Required.
	MaxGood int
}

// Limiter is a token bucket per address that only failures empty. Tokens that were
// valid before are let through regardless, so that those behind the same proxy as
// somebody who guesses are not locked out; they are looked up like any other. The
// buckets of IPv6 are networks of 64 bits. It is safe for concurrent use.
type Limiter struct {
	o       Options
	mu      sync.Mutex
	buckets *ratelimit.Buckets[netip.Prefix]
	good    map[[sha256.Size]byte]struct{}
}

// New returns a limiter that knows nobody.
func New(o Options) *Limiter {
	return &Limiter{o: o, buckets: ratelimit.New[netip.Prefix](o.Burst, o.Every, maxAddresses), good: map[[sha256.Size]byte]struct{}{}}
}

// Allow reports whether a token of that address (host and port) may be looked up.
func (l *Limiter) Allow(remote, token string) bool {
	key := network(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.good[sha256.Sum256([]byte(token))]; known {
		return true
	}
	return l.buckets.Left(key)
}

// Failed takes one failure from the address.
func (l *Limiter) Failed(remote, token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.good, sha256.Sum256([]byte(token)))
	l.buckets.Take(network(remote))
}

// Succeeded remembers a token that is valid.
func (l *Limiter) Succeeded(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for old := range l.good {
		if len(l.good) < l.o.MaxGood {
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
