package exposition

import (
	"hash/maphash"
	"runtime"
	"slices"
	"sync"
	"weak"
)

// shape is what rows have in common that show the same series of different
// agents: everything but identity and values. It is immutable.
type shape struct {
	places []place
	// first[f] is the index of the first place of family f.
	first []int32
	// text is the length of all heads and tails, identities is how many places have
	// which identity.
	text       int
	identities [3]int
}

// place is where a sample of a row goes: head, identity labels, tail, value.
type place struct {
	family int32
	// suffix is that of a histogram's part.
	suffix suffix
	head   string // `name{`
	tail   string // `,labels} `, without the comma if there is no identity
}

// suffix is that of a histogram's part, in the order in which the parts stand.
type suffix uint8

const (
	noSuffix suffix = iota
	bucketSuffix
	sumSuffix
	countSuffix
)

func (s suffix) String() string { return [...]string{"", "_bucket", "_sum", "_count"}[s] }

// labels returns the rendered labels of the place's own.
func (p *place) labels() string {
	t := p.tail
	if len(t) > 0 && t[0] == ',' {
		t = t[1:]
	}
	return t[:max(len(t)-len("} "), 0)]
}

// of returns the places of a family and the index of the first of them.
func (s *shape) of(family int) (first int, places []place) {
	if family+1 >= len(s.first) {
		return 0, nil
	}
	first = int(s.first[family])
	return first, s.places[first:s.first[family+1]]
}

// newPlace renders a place.
func newPlace(t *Table, family int, suffix suffix, labels string) place {
	p := place{family: int32(family), suffix: suffix, tail: labels}
	f := &t.families[family]
	switch {
	case f.Identity == NoIdentity && labels == "":
		p.tail = " "
	case f.Identity == NoIdentity:
		p.tail = labels + "} "
	case labels == "":
		p.tail = "} "
	default:
		p.tail = "," + labels + "} "
	}
	p.head = t.heads[family][suffix]
	if p.tail == " " {
		p.head = p.head[:len(p.head)-len("{")]
	}
	return p
}

// newShape makes a shape of sorted places.
func newShape(t *Table, places []place) *shape {
	s := &shape{places: places}
	last := -1
	for i := range places {
		p := &places[i]
		for ; last < int(p.family); last++ {
			s.first = append(s.first, int32(i))
		}
		s.text += len(p.head) + len(p.tail)
		s.identities[t.families[p.family].Identity]++
	}
	s.first = slices.Clip(append(s.first, int32(len(places))))
	return s
}

// shapes are the shapes that rows share. One that no row has is forgotten, so
// there are never more than rows; agents that all have series of their own, which
// gains nothing, are bounded below that.
type shapes struct {
	seed maphash.Seed
	mu   sync.Mutex
	// known shapes by the hash of their places. If two have the same, one is not
	// shared.
	known map[uint64]weak.Pointer[shape]
}

// maxShapes bounds the shapes that are shared.
const maxShapes = 16384

func newShapes() *shapes {
	return &shapes{seed: maphash.MakeSeed(), known: make(map[uint64]weak.Pointer[shape])}
}

// intern returns the shape with that hash for which same is true, and makes one
// if there is none.
func (s *shapes) intern(hash uint64, same func(*shape) bool, make func() *shape) *shape {
	if known, ok := s.find(hash); ok && same(known) {
		return known
	}
	fresh := make()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, taken := s.known[hash]; taken {
		if other := p.Value(); other != nil { // somebody was faster, or has the same hash
			if same(other) {
				return other
			}
			return fresh
		}
	} else if len(s.known) >= maxShapes {
		return fresh
	}
	s.known[hash] = weak.Make(fresh)
	runtime.AddCleanup(fresh, s.forget, hash)
	return fresh
}

func (s *shapes) find(hash uint64) (*shape, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.known[hash]
	if !ok {
		return nil, false
	}
	known := p.Value()
	return known, known != nil
}

// forget removes a shape that no row has any more.
func (s *shapes) forget(hash uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.known[hash]; ok && p.Value() == nil {
		delete(s.known, hash)
	}
}
