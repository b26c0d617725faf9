package exposition

import "sync"

// The most samples, and bytes of their labels, whose memory is kept for the next
// row; hardly an agent has more.
const (
	maxScratch     = 1024
	maxScratchText = 64 << 10
)

// scratches lends builders what they need for a moment. It is safe for concurrent
// use.
type scratches struct{ pool sync.Pool }

func (p *scratches) get() scratch {
	if s, ok := p.pool.Get().(*scratch); ok {
		return *s
	}
	return scratch{seen: make(map[uint64]int32)}
}

func (p *scratches) put(s scratch) {
	if len(s.samples) > maxScratch || len(s.labels) > maxScratchText {
		return
	}
	clear(s.samples) // they hold text
	clear(s.seen)
	p.pool.Put(&scratch{samples: s.samples[:0], labels: s.labels[:0], seen: s.seen})
}
