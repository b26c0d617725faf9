package exposition

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sort"
	"unicode/utf8"
)

// Builder collects the samples of a row. It belongs to one goroutine.
type Builder struct {
	table *Table
	// identity are the rendered labels of AgentTemplate, agent the length of those
	// of Agent.
	identity string
	agent    int
	scratch
	// maxSamples and maxText bound samples and their bytes, 0 means nothing does;
	// text are the bytes of samples so far, without values.
	maxSamples, maxText, text int
}

// scratch is what a builder fills and a row does not keep: it serves the next one.
type scratch struct {
	samples []sample
	// labels are the rendered ones of all samples, one after the other.
	labels []byte
	// seen are the samples by their hash; those with an equal one are chained by
	// sample.next, as the index plus one.
	seen map[uint64]int32
}

type sample struct {
	family   int32
	suffix   suffix
	from, to int32 // in labels
	next     int32
	value    float64
	// rest are the labels of a histogram's part without its bound.
	rest  string
	bound float64
}

// NewBuilder starts a row. names may be zero for a source without identity: then
// samples of families that have one are refused.
func (t *Table) NewBuilder(names Names) *Builder {
	b := &Builder{table: t, scratch: t.scratch.get()}
	whole := appendLabels(nil, []Label{{"agent_name", names.AgentName}, {"username", names.Username}, {"workspace_name", names.WorkspaceName}})
	b.agent = len(whole)
	if b.agent > 0 && names.TemplateName != "" {
		whole = appendLabels(append(whole, ','), []Label{{"template_name", names.TemplateName}})
	}
	b.identity = string(whole)
	return b
}

// The reasons for which a sample is refused.
var (
	ErrUnknownFamily = errors.New("unknown family")
	ErrNoIdentity    = errors.New("the source has no identity")
	ErrDuplicate     = errors.New("duplicate series")
	ErrInvalidLabel  = errors.New("invalid label")
	ErrTooMany       = errors.New("too many series")
	ErrTooLarge      = errors.New("too many bytes")
)

// Limit bounds how many samples Add takes, and how many bytes they may have in
// the text format, short of their values. 0 means no limit. FillZeros goes beyond
// it: its samples are bounded by the table.
func (b *Builder) Limit(samples, text int) { b.maxSamples, b.maxText = samples, text }

// Len is the number of samples so far.
func (b *Builder) Len() int { return len(b.samples) }

// Undo takes back all samples but the first n.
func (b *Builder) Undo(n int) {
	for i := len(b.samples) - 1; i >= n; i-- {
		s := &b.samples[i]
		b.text -= b.size(s)
		b.seen[b.hash(s)] = s.next // of those with one hash the last came first
		b.labels = b.labels[:s.from]
	}
	b.samples = b.samples[:n]
}

// Add adds a sample under its full name, for a part of a histogram that with
// suffix. Empty label values are left out. A sample that could break the page is
// refused with one of the errors above.
func (b *Builder) Add(name string, value float64, labels ...Label) error {
	family, part, ok := b.table.find(name)
	if !ok {
		return fmt.Errorf("%w: %q", ErrUnknownFamily, name)
	}
	f := &b.table.families[family]
	if f.Identity != NoIdentity && b.agent == 0 {
		return ErrNoIdentity
	}
	for i, l := range labels {
		twice := slices.ContainsFunc(labels[:i], func(o Label) bool { return o.Name == l.Name })
		if !ValidLabelName(l.Name) || !utf8.ValidString(l.Value) || twice || f.Identity != NoIdentity && IsIdentityLabel(l.Name) {
			return fmt.Errorf("%w: %q", ErrInvalidLabel, l.Name)
		}
	}
	from := len(b.labels)
	b.labels = appendLabels(b.labels, labels)
	s := sample{family: int32(family), suffix: part, from: int32(from), to: int32(len(b.labels)), value: value}
	if part != noSuffix {
		s.rest, s.bound = splitBound(string(b.own(&s)))
	}
	var err error
	switch {
	case b.maxSamples > 0 && len(b.samples) >= b.maxSamples:
		err = ErrTooMany
	case b.maxText > 0 && b.text+b.size(&s) > b.maxText:
		err = ErrTooLarge
	case !b.keep(s):
		err = fmt.Errorf("%w: %s{%s}", ErrDuplicate, name, b.labels[from:])
	default:
		return nil
	}
	b.labels = b.labels[:from]
	return err
}

// size is how long a sample is without its value.
func (b *Builder) size(s *sample) int {
	n := len(b.table.heads[s.family][s.suffix]) + int(s.to-s.from) + len(",} ")
	switch b.table.families[s.family].Identity {
	case Agent:
		n += b.agent
	case AgentTemplate:
		n += len(b.identity)
	}
	return n
}

// keep adds a sample unless it is there already.
func (b *Builder) keep(s sample) bool {
	hash := b.hash(&s)
	s.next = b.seen[hash]
	for i := s.next; i > 0; i = b.samples[i-1].next {
		if o := &b.samples[i-1]; o.family == s.family && o.suffix == s.suffix && string(b.own(o)) == string(b.own(&s)) {
			return false
		}
	}
	b.samples = append(b.samples, s)
	b.text += b.size(&s)
	b.seen[hash] = int32(len(b.samples))
	return true
}

func (b *Builder) own(s *sample) []byte { return b.labels[s.from:s.to] }

func (b *Builder) hash(s *sample) uint64 {
	h := maphash.Bytes(b.table.shapes.seed, b.own(s))
	return mix(h, uint64(s.family)<<2|uint64(s.suffix))
}

// mix combines hashes; the order matters.
func mix(h, with uint64) uint64 { return (h ^ with*0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd }

// FillZeros adds the zeros of the families that pass the filter, where no other
// value was added.
func (b *Builder) FillZeros(filter func(*Family) bool) {
	for i := range b.table.families {
		f := &b.table.families[i]
		if f.Zeros == nil || f.Identity != NoIdentity && b.agent == 0 || !filter(f) {
			continue
		}
		for _, labels := range b.table.zeros[i] {
			from := len(b.labels)
			b.labels = append(b.labels, labels...)
			if !b.keep(sample{family: int32(i), from: int32(from), to: int32(len(b.labels))}) {
				b.labels = b.labels[:from]
			}
		}
	}
}

// Row ends the building. The builder must not be used afterwards.
func (b *Builder) Row() *Row {
	sort.Sort(bySeries{b})
	r := &Row{shape: b.shape(), agent: uint32(b.agent), template: uint32(len(b.identity))}
	r.data = pack(len(b.samples), b.identity, func(to []byte, i int) []byte {
		return append(appendValue(to, b.samples[i].value), '\n')
	})
	b.table.scratch.put(b.scratch)
	b.scratch = scratch{}
	return r
}

// shape returns that of the sorted samples.
func (b *Builder) shape() *shape {
	var blocks []*block
	hash := uint64(len(b.samples))
	for rest := b.samples; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].family == rest[0].family {
			n++
		}
		one, h := b.block(rest[:n])
		blocks, hash, rest = append(blocks, one), mix(hash, h), rest[n:]
	}
	same := func(s *shape) bool {
		return slices.EqualFunc(s.parts, blocks, func(p part, b *block) bool { return p.block == b })
	}
	return b.table.shapes.shapes.get(hash, same, func() *shape { return newShape(b.table, blocks) })
}

// block returns that of the samples of a family, and its hash.
func (b *Builder) block(samples []sample) (*block, uint64) {
	hash := uint64(len(samples))
	for i := range samples {
		hash = mix(hash, b.hash(&samples[i]))
	}
	family := samples[0].family
	same := func(k *block) bool {
		return k.family == family && slices.EqualFunc(k.places, samples, func(p place, s sample) bool {
			return p.suffix == s.suffix && p.labels() == string(b.own(&s))
		})
	}
	return b.table.shapes.blocks.get(hash, same, func() *block {
		k := &block{family: family, places: make([]place, len(samples))}
		for i := range samples {
			k.places[i] = newPlace(b.table, int(family), samples[i].suffix, string(b.own(&samples[i])))
		}
		return k
	}), hash
}

// bySeries sorts by family. Within a histogram the parts of one label set must
// stand together, buckets in order of their bound, as OpenMetrics demands.
type bySeries struct{ *Builder }

// Swap implements sort.Interface.
func (b bySeries) Swap(i, j int) { b.samples[i], b.samples[j] = b.samples[j], b.samples[i] }

// Less implements sort.Interface.
func (b bySeries) Less(i, j int) bool {
	x, y := &b.samples[i], &b.samples[j]
	switch {
	case x.family != y.family:
		return x.family < y.family
	case x.suffix == noSuffix && y.suffix == noSuffix:
		return bytes.Compare(b.own(x), b.own(y)) < 0
	case x.rest != y.rest:
		return x.rest < y.rest
	case x.suffix != y.suffix:
		return x.suffix < y.suffix
	}
	return x.bound < y.bound
}
