package exposition

import (
	"io"

	dto "github.com/prometheus/client_model/go"
)

// Part is what of a page is shown.
type Part uint8

// The parts.
const (
	// Everything is both others together.
	Everything Part = iota
	// Replica is what this process knows: its own counts, the families of its
	// registries, and the reports of its agents.
	Replica
	// Deployment is what every replica of a server shows alike.
	Deployment
)

// Page is what one scrape shows.
type Page struct {
	Table *Table
	// Sides selects the families; one of its bits must be set in the family's.
	Sides Side
	Part  Part
	// Names, if there are any, are the only families that are shown.
	Names map[string]bool
	Rows  []*Row
	// Shared are more rows. Their slices belong to somebody else, and a page only
	// reads them.
	Shared [][]*Row
	// Gathered are the families of registries; one whose name the table has is
	// left out.
	Gathered []*dto.MetricFamily
}

// Write renders the page. Families of the page's sides are announced even if
// they have no sample.
func (p *Page) Write(w io.Writer, f Format) error {
	if f == Protobuf {
		return p.writeProtobuf(w)
	}
	tw := &textWriter{w: w, format: f, buf: make([]byte, 0, bufferSize+slack), taken: p.names()}
	present := p.present()
	for i := range p.Table.families {
		if family := &p.Table.families[i]; p.shows(family) {
			tw.header(family.Name, family.Type, family.Help)
			if present[i] {
				for _, rows := range p.groups() {
					tw.rows(i, family.Identity, rows)
				}
			}
		}
		if tw.err != nil {
			return tw.err
		}
	}
	for _, mf := range p.Gathered {
		if p.showsGathered(mf) {
			tw.gathered(mf)
		}
	}
	if f == OpenMetrics {
		tw.buf = append(tw.buf, "# EOF\n"...)
	}
	tw.flush(0)
	return tw.err
}

// shows says whether a family of the table is on the page.
func (p *Page) shows(f *Family) bool {
	return f.Sides&p.Sides != 0 && (p.Part == Everything || f.Deployment == (p.Part == Deployment)) && p.named(f.Name)
}

func (p *Page) showsGathered(mf *dto.MetricFamily) bool {
	_, ours := p.Table.byName[mf.GetName()]
	return !ours && p.Part != Deployment && p.named(mf.GetName())
}

func (p *Page) named(family string) bool { return len(p.Names) == 0 || p.Names[family] }

// present says which families have samples at all, so that the writers do not
// look through all rows for nothing. A family that came after the page's table was
// taken waits for the next scrape.
func (p *Page) present() []bool {
	var families []uint64
	var last *shape
	for _, rows := range p.groups() {
		for _, r := range rows {
			if r.shape == last {
				continue
			}
			last = r.shape
			for len(families) < len(last.families) {
				families = append(families, 0)
			}
			for i, w := range last.families {
				families[i] |= w
			}
		}
	}
	present := make([]bool, len(p.Table.families))
	for f := range present {
		present[f] = f/64 < len(families) && families[f/64]>>(f%64)&1 == 1
	}
	return present
}

func (p *Page) groups() [][]*Row { return append(p.Shared[:len(p.Shared):len(p.Shared)], p.Rows) }

// names returns the names of all families of the page.
func (p *Page) names() map[string]struct{} {
	m := make(map[string]struct{}, len(p.Table.families)+len(p.Gathered))
	for i := range p.Table.families {
		if p.shows(&p.Table.families[i]) {
			m[p.Table.families[i].Name] = struct{}{}
		}
	}
	for _, mf := range p.Gathered {
		if p.showsGathered(mf) {
			m[mf.GetName()] = struct{}{}
		}
	}
	return m
}
