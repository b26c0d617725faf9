package stats

import (
	"slices"
	"strings"
)

// Label is one label of a series.
type Label struct{ Name, Value string }

// Series is one value with its name and labels, sorted by label name.
type Series struct {
	Name   string
	Labels []Label
	Value  float64
}

// Key identifies a series by name and labels.
func (s Series) Key() string {
	n := len(s.Name)
	for _, l := range s.Labels {
		n += len(l.Name) + len(l.Value) + 2
	}
	var b strings.Builder
	b.Grow(n)
	b.WriteString(s.Name)
	for _, l := range s.Labels {
		b.WriteByte(0xff)
		b.WriteString(l.Name)
		b.WriteByte(0xff)
		b.WriteString(l.Value)
	}
	return b.String()
}

// counter is a cumulative count guarded by Tally.mu. Durations are counted in
// integer microseconds and divided on the way out, so that long sums stay exact.
type counter struct {
	series Series
	n      uint64
	// base is what a restored record brought along.
	base float64
	// divisor turns n into the unit of the series; 0 means 1.
	divisor float64
}

func (c *counter) value() float64 {
	if c.divisor != 0 {
		return c.base + float64(c.n)/c.divisor
	}
	return c.base + float64(c.n)
}

// counters is the ordered set of all series of a tally. It is guarded by
// Tally.mu after New has returned.
type counters struct {
	list  []*counter
	byKey map[string]*counter
}

// add returns the counter of the series, creating it at 0. Labels are given as
// name, value, name, value, in any order.
func (cs *counters) add(name string, labels ...string) *counter {
	s := Series{Name: name}
	for i := 0; i+1 < len(labels); i += 2 {
		s.Labels = append(s.Labels, Label{labels[i], labels[i+1]})
	}
	slices.SortFunc(s.Labels, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	return cs.addSeries(s)
}

func (cs *counters) addSeries(s Series) *counter {
	k := s.Key()
	if c, ok := cs.byKey[k]; ok {
		return c
	}
	c := &counter{series: Series{Name: s.Name, Labels: s.Labels}}
	cs.list = append(cs.list, c)
	if cs.byKey == nil {
		cs.byKey = make(map[string]*counter)
	}
	cs.byKey[k] = c
	return c
}

// vec creates one counter for each value of a label.
func (cs *counters) vec(name, label string, values ...string) map[string]*counter {
	m := make(map[string]*counter, len(values))
	for _, v := range values {
		m[v] = cs.add(name, label, v)
	}
	return m
}

func (cs *counters) appendTo(dst []Series) []Series {
	for _, c := range cs.list {
		s := c.series
		s.Value = c.value()
		dst = append(dst, s)
	}
	return dst
}
