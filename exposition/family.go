package exposition

import (
	"slices"
	"strings"
)

// Type is the type of a family.
type Type string

// The types.
const (
	Counter   Type = "counter"
	Gauge     Type = "gauge"
	Histogram Type = "histogram"
	Summary   Type = "summary"
	Untyped   Type = "unknown"
)

// Identity says which labels a row puts on every sample of a family.
type Identity uint8

// The identities.
const (
	// NoIdentity: the family describes the process or the deployment.
	NoIdentity Identity = iota
	// Agent: agent_name, username, workspace_name.
	Agent
	// AgentTemplate: those of Agent and template_name, if it is known.
	AgentTemplate
)

// Side says on which page a family is shown.
type Side uint8

// The sides.
const (
	AgentPage  Side = 1 << iota
	ServerPage      // always there
	// ServerCollect: on the server's page if agent stats are collected.
	ServerCollect
)

// Family is one metric family.
type Family struct {
	Name string
	Type Type
	Help string
	// Labels are the family's own, without those of its identity and "le".
	Labels   []string
	Identity Identity
	Sides    Side
	// Deployment: the values come from the database, and every replica of a server
	// shows the same.
	Deployment bool
	// Deprecated: another family says the same; NewTableWithoutDeprecated leaves it
	// out.
	Deprecated bool
	// Forwarded: an agent may send series of this family, and the server shows
	// them.
	Forwarded bool
	// Zeros says that the family is shown as 0 until something happened: for each
	// label in order the values of its vocabulary, all combined. An empty list that
	// is not nil stands for a family without labels.
	Zeros [][]string
}

// Table is an immutable set of families in the order of the page.
type Table struct {
	families []Family
	byName   map[string]int
	// heads are what samples begin with, by family and suffix; zeros are the
	// rendered labels of those that are shown from the start.
	heads  [][]string
	zeros  [][]string
	shapes *shapes
	// scratch is shared with the tables that this one was extended to.
	scratch *scratches
}

// NewTable returns the table of all families of ours.
func NewTable() *Table { return NewTableFor(LabelsBoth) }

// NewTableFor returns the table with the labels of a mode.
func NewTableFor(mode LabelMode) *Table { return newTable(mode, false) }

// NewTableWithoutDeprecated returns the table with the labels of a mode and without
// the families that have a replacement.
func NewTableWithoutDeprecated(mode LabelMode) *Table { return newTable(mode, true) }

func newTable(mode LabelMode, hideDeprecated bool) *Table {
	t := &Table{shapes: newShapes(), scratch: new(scratches)}
	for _, group := range [][]Family{agentStats(), agentFamilies(), agentProcess(), serverFamilies(mode), peopleFamilies(), buildFamilies(mode), insightFamilies()} {
		t.families = append(t.families, group...)
	}
	t.families = slices.DeleteFunc(t.families, func(f Family) bool { return f.Deprecated && hideDeprecated })
	t.index()
	return t
}

func (t *Table) index() {
	t.byName = make(map[string]int, len(t.families))
	for i, f := range t.families {
		if _, twice := t.byName[f.Name]; twice {
			panic("BUG: exposition: family twice in the table: " + f.Name)
		}
		t.byName[f.Name] = i
		if i >= len(t.heads) {
			t.heads = append(t.heads, heads(&f))
			t.zeros = append(t.zeros, zeros(&f, nil))
		}
	}
}

func heads(f *Family) []string {
	h := []string{f.Name + "{"}
	if f.Type == Histogram {
		for _, s := range [...]suffix{bucketSuffix, sumSuffix, countSuffix} {
			h = append(h, f.Name+s.String()+"{")
		}
	}
	return h
}

// zeros combines the values of all labels that are still open.
func zeros(f *Family, labels []Label) (rendered []string) {
	if f.Zeros == nil {
		return nil
	}
	if len(labels) == len(f.Zeros) {
		return []string{renderLabels(labels)}
	}
	for _, v := range f.Zeros[len(labels)] {
		rendered = append(rendered, zeros(f, append(labels, Label{f.Labels[len(labels)], v}))...)
	}
	return rendered
}

// Extend returns a table with one more family at the end. Rows of the old table
// stay valid.
func (t *Table) Extend(f Family) *Table {
	n := &Table{
		families: append(t.families[:len(t.families):len(t.families)], f), shapes: t.shapes, scratch: t.scratch,
		heads: slices.Clip(t.heads), zeros: slices.Clip(t.zeros),
	}
	n.index()
	return n
}

// Families returns the families in the order of the page.
func (t *Table) Families() []Family { return t.families }

// Only returns those of the labels that the table gives to a family: what the
// label mode leaves out is gone.
func (t *Table) Only(family string, labels ...Label) []Label {
	i, ok := t.byName[family]
	return slices.DeleteFunc(labels, func(l Label) bool { return !ok || !slices.Contains(t.families[i].Labels, l.Name) })
}

// Lookup returns the family to which a sample of the given name belongs, and the
// suffix that the name has beyond the family's: "_bucket", "_sum" or "_count" of
// a histogram, or "".
func (t *Table) Lookup(sample string) (f *Family, suffix string, ok bool) {
	i, part, ok := t.find(sample)
	if !ok {
		return nil, "", false
	}
	return &t.families[i], part.String(), true
}

func (t *Table) find(sample string) (i int, part suffix, ok bool) {
	if i, ok = t.byName[sample]; ok {
		return i, noSuffix, true
	}
	for _, s := range [...]suffix{bucketSuffix, sumSuffix, countSuffix} {
		base, cut := strings.CutSuffix(sample, s.String())
		if !cut {
			continue
		}
		if i, ok = t.byName[base]; ok && t.families[i].Type == Histogram {
			return i, s, true
		}
	}
	return 0, noSuffix, false
}
