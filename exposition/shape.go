package exposition

import (
	"hash/maphash"
	"math/bits"
)

// shape is everything of a row but identity and values: which series it has. Rows
// of many agents have the same one. It is immutable.
type shape struct {
	// parts are the families that the row has, in their order, n is the number of
	// places. The writer needs only these two; they come first so that they share a
	// line of the cache.
	parts []part
	n     int
	// families has a bit for each of the families.
	families []uint64
	// text is the length of all heads and tails, identities is how many places have
	// which identity.
	text       int
	identities [3]int
}

// part is what a shape has of a family.
type part struct {
	*block
	family int32
	first  int32 // the index of the first of its places in the row
}

// block is the places of one family. Agents differ in what they have of a few
// families, mostly in the buckets of histograms that are not 0; so shapes that are
// not the same share their blocks.
type block struct {
	family int32
	places []place
}

// place is where a sample of a row goes: head, identity labels, tail, value.
type place struct {
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

// newPlace renders a place.
func newPlace(t *Table, family int, suffix suffix, labels string) place {
	p := place{suffix: suffix, tail: labels}
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

// of returns the places of a family and the index of the first of them.
func (s *shape) of(family int) (first int, places []place) {
	i, ok := s.find(family, 0)
	if !ok {
		return 0, nil
	}
	return int(s.parts[i].first), s.parts[i].places
}

// find returns which part is that of a family. It looks first where it was in the
// shape before.
func (s *shape) find(family, before int) (i int, ok bool) {
	if before < len(s.parts) && int(s.parts[before].family) == family {
		return before, true
	}
	word, bit := family/64, uint(family%64)
	if word >= len(s.families) || s.families[word]>>bit&1 == 0 {
		return before, false
	}
	i = bits.OnesCount64(s.families[word] & (1<<bit - 1))
	for _, w := range s.families[:word] {
		i += bits.OnesCount64(w)
	}
	return i, true
}

// newShape makes a shape of blocks in the order of their families.
func newShape(t *Table, blocks []*block) *shape {
	s := &shape{parts: make([]part, len(blocks))}
	if len(blocks) > 0 {
		s.families = make([]uint64, blocks[len(blocks)-1].family/64+1)
	}
	for i, b := range blocks {
		s.families[b.family/64] |= 1 << (b.family % 64)
		s.parts[i] = part{b, b.family, int32(s.n)}
		s.n += len(b.places)
		s.identities[t.families[b.family].Identity] += len(b.places)
		for j := range b.places {
			s.text += len(b.places[j].head) + len(b.places[j].tail)
		}
	}
	return s
}

// shapes are what rows share.
type shapes struct {
	seed   maphash.Seed
	shapes *interned[shape]
	blocks *interned[block]
}

// The limits of what is shared.
const (
	maxShapes = 1 << 14
	maxBlocks = 1 << 16
)

func newShapes() *shapes {
	return &shapes{seed: maphash.MakeSeed(), shapes: newInterned[shape](maxShapes), blocks: newInterned[block](maxBlocks)}
}
