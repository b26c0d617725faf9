package exposition

import (
	"runtime"
	"sync"
	"weak"
)

// interned are values that are kept once, although many have them. One that nobody
// has is forgotten; so there are never more than users, and agents that all bring
// values of their own, which gains nothing, are bounded below that.
type interned[T any] struct {
	limit int
	mu    sync.Mutex
	// known values by their hash. If two have the same, one is not shared.
	known map[uint64]weak.Pointer[T]
}

func newInterned[T any](limit int) *interned[T] {
	return &interned[T]{limit: limit, known: make(map[uint64]weak.Pointer[T])}
}

// get returns the value with that hash for which same is true, and makes one if
// there is none.
func (in *interned[T]) get(hash uint64, same func(*T) bool, make func() *T) *T {
	if known := in.find(hash); known != nil && same(known) {
		return known
	}
	fresh := make()
	in.mu.Lock()
	defer in.mu.Unlock()
	if p, taken := in.known[hash]; taken {
		if other := p.Value(); other != nil { // somebody was faster, or has the same hash
			if same(other) {
				return other
			}
			return fresh
		}
	} else if len(in.known) >= in.limit {
		return fresh
	}
	in.known[hash] = weak.Make(fresh)
	runtime.AddCleanup(fresh, in.forget, hash)
	return fresh
}

func (in *interned[T]) find(hash uint64) *T {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.known[hash].Value() // that of a zero pointer is nil
}

// forget removes a value that nobody has any more.
func (in *interned[T]) forget(hash uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if p, ok := in.known[hash]; ok && p.Value() == nil {
		delete(in.known, hash)
	}
}

func (in *interned[T]) len() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.known)
}
