package faultnet

import (
	"math/rand/v2"
	"time"
)

// Faults is what is wrong with a network. The zero value is nothing.
type Faults struct {
	// Latency is how long everything is under way, in each direction.
	Latency time.Duration
	// Rate is the most that passes, in bytes a second for each connection and
	// direction; 0 is any.
	Rate int
	// Slice is the longest piece that is delivered at once, in bytes; the length of
	// each is random. 0 is any.
	Slice int
	// Break resets each connection after a random number of bytes, at most this
	// many in the direction that comes there first, wherever in a message that is.
	// 0 is never. A connection learns of it when it is made.
	Break int
	// LoseReplies takes what comes from the target away. It cannot come back, so
	// that a Cut must follow.
	LoseReplies bool
	// Stall lets nothing through, and forgets nothing.
	Stall bool
}

// slicePause separates slices, so that the receiver sees them one by one.
const slicePause = 100 * time.Microsecond

// piece is how much of n bytes is written at once.
func (f *Faults) piece(rng *rand.Rand, n int) int {
	if f.Slice > 0 {
		n = min(n, 1+rng.IntN(f.Slice))
	}
	if f.Rate > 0 { // a twentieth of a second's worth
		n = min(n, max(1, f.Rate/20))
	}
	return n
}

// pause is how long to wait after n bytes.
func (f *Faults) pause(n int) time.Duration {
	var d time.Duration
	if f.Slice > 0 {
		d = slicePause
	}
	if f.Rate > 0 {
		d = max(d, time.Duration(n)*time.Second/time.Duration(f.Rate))
	}
	return d
}
