package exposition

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Label is one label of a sample.
type Label struct{ Name, Value string }

// Names are the identity labels of an agent.
type Names struct {
	AgentName, Username, WorkspaceName string
	// TemplateName is left out of the labels if empty: unknown is no label.
	TemplateName string
}

// Sample is one rendered sample of a row.
type Sample struct {
	family int32
	// suffix is that of a histogram's part.
	suffix string
	// labels are rendered, without identity and braces: a="b",c="d".
	labels string
	value  float64
}

// Row is the immutable state of one source. It may be read by any number of
// writers at once.
type Row struct {
	// prefixes are the rendered identity labels, by Identity.
	prefixes [3]string
	samples  []Sample
	// first[i] is the index of the first sample of family i.
	first []int32
}

func (r *Row) of(family int) []Sample {
	if family+1 >= len(r.first) {
		return nil
	}
	return r.samples[r.first[family]:r.first[family+1]]
}

// Builder collects the samples of a row. It belongs to one goroutine.
type Builder struct {
	table *Table
	row   Row
	seen  map[string]struct{}
}

// NewBuilder starts a row. names may be zero for a source without identity: then
// samples of families that have one are refused.
func (t *Table) NewBuilder(names Names) *Builder {
	b := &Builder{table: t, seen: make(map[string]struct{})}
	if names != (Names{}) {
		id := []Label{{"agent_name", names.AgentName}, {"username", names.Username}, {"workspace_name", names.WorkspaceName}}
		b.row.prefixes[Agent] = renderLabels(id)
		if names.TemplateName != "" {
			id = append(id, Label{"template_name", names.TemplateName})
		}
		b.row.prefixes[AgentTemplate] = renderLabels(id)
	}
	return b
}

// The reasons for which a sample is refused.
var (
	ErrUnknownFamily = errors.New("unknown family")
	ErrNoIdentity    = errors.New("the source has no identity")
	ErrDuplicate     = errors.New("duplicate series")
	ErrInvalidLabel  = errors.New("invalid label")
)

// Add adds a sample under its full name, for a part of a histogram that with
// suffix. Empty label values are left out. A sample that could break the page is
// refused with one of the errors above.
func (b *Builder) Add(name string, value float64, labels ...Label) error {
	family, suffix, ok := b.table.find(name)
	if !ok {
		return fmt.Errorf("%w: %q", ErrUnknownFamily, name)
	}
	f := &b.table.families[family]
	if f.Identity != NoIdentity && b.row.prefixes[f.Identity] == "" {
		return ErrNoIdentity
	}
	for i, l := range labels {
		twice := slices.ContainsFunc(labels[:i], func(o Label) bool { return o.Name == l.Name })
		if !ValidLabelName(l.Name) || !utf8.ValidString(l.Value) || twice || f.Identity != NoIdentity && IsIdentityLabel(l.Name) {
			return fmt.Errorf("%w: %q", ErrInvalidLabel, l.Name)
		}
	}
	rendered := renderLabels(labels)
	key := name + "{" + rendered
	if _, twice := b.seen[key]; twice {
		return fmt.Errorf("%w: %s", ErrDuplicate, key)
	}
	b.seen[key] = struct{}{}
	b.row.samples = append(b.row.samples, Sample{family: int32(family), suffix: suffix, labels: rendered, value: value})
	return nil
}

// FillZeros adds the zeros of the families that pass the filter, where no other
// value was added.
func (b *Builder) FillZeros(filter func(*Family) bool) {
	for i := range b.table.families {
		f := &b.table.families[i]
		if f.Zeros != nil && filter(f) {
			b.fillZeros(f, make([]Label, 0, len(f.Zeros)))
		}
	}
}

// fillZeros adds a zero for every combination of the labels that are still open.
func (b *Builder) fillZeros(f *Family, labels []Label) {
	if len(labels) == len(f.Zeros) {
		// A refusal means that the value is there already.
		_ = b.Add(f.Name, 0, labels...)
		return
	}
	for _, v := range f.Zeros[len(labels)] {
		b.fillZeros(f, append(labels, Label{f.Labels[len(labels)], v}))
	}
}

// Row ends the building. The builder must not be used afterwards.
func (b *Builder) Row() *Row {
	r := &b.row
	slices.SortStableFunc(r.samples, compareSamples)
	r.first = make([]int32, len(b.table.families)+1)
	i := 0
	for f := range r.first {
		for i < len(r.samples) && int(r.samples[i].family) < f {
			i++
		}
		r.first[f] = int32(i)
	}
	b.seen = nil
	return r
}

// compareSamples sorts by family. Within a histogram the parts of one label set
// must stand together, buckets in order of their bound, as OpenMetrics demands.
func compareSamples(x, y Sample) int {
	if c := cmp.Compare(x.family, y.family); c != 0 {
		return c
	}
	if x.suffix == "" && y.suffix == "" {
		return strings.Compare(x.labels, y.labels)
	}
	xl, xb := splitBound(x.labels)
	yl, yb := splitBound(y.labels)
	if c := strings.Compare(xl, yl); c != 0 {
		return c
	}
	if c := cmp.Compare(suffixOrder(x.suffix), suffixOrder(y.suffix)); c != 0 {
		return c
	}
	return cmp.Compare(xb, yb)
}

func suffixOrder(s string) int { return strings.Index("_bucket_sum_count", s) }

// renderLabels writes sorted labels; those with an empty value are left out.
func renderLabels(labels []Label) string {
	labels = slices.DeleteFunc(slices.Clone(labels), func(l Label) bool { return l.Value == "" })
	slices.SortFunc(labels, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	var b strings.Builder
	for i, l := range labels {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(l.Name)
		b.WriteString(`="`)
		escapeLabel(&b, l.Value)
		b.WriteByte('"')
	}
	return b.String()
}

func escapeLabel(b *strings.Builder, v string) {
	for i := range len(v) {
		switch c := v[i]; c {
		case '\\':
			b.WriteString(`\\`)
		case '"':
			b.WriteString(`\"`)
		case '\n':
			b.WriteString(`\n`)
		default:
			b.WriteByte(c)
		}
	}
}

// IsIdentityLabel says whether a label name is one of those that identify an
// agent; they are put on when a page is written and never come from outside.
func IsIdentityLabel(name string) bool {
	switch name {
	case "agent_name", "username", "workspace_name", "template_name":
		return true
	}
	return false
}

// ValidLabelName says whether a name is a label name of the classic charset
// that is not reserved.
func ValidLabelName(s string) bool {
	return !strings.HasPrefix(s, "__") && validName(s, false)
}

// ValidMetricName says whether a name is a metric name of the classic charset.
func ValidMetricName(s string) bool { return validName(s, true) }

func validName(s string, colon bool) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		ok := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9' || colon && c == ':'
		if !ok {
			return false
		}
	}
	return true
}
