package exposition

import (
	"io"
	"math"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// Format is an exposition format.
type Format uint8

// The formats.
const (
	Text Format = iota
	OpenMetrics
)

// ContentType returns the content type of the format.
func (f Format) ContentType() string {
	if f == OpenMetrics {
		return "application/openmetrics-text; version=1.0.0; charset=utf-8"
	}
	return "text/plain; version=0.0.4; charset=utf-8"
}

// Page is what one scrape shows.
type Page struct {
	Table *Table
	// Sides selects the families; one of its bits must be set in the family's.
	Sides Side
	Rows  []*Row
	// Gathered are the families of registries; one whose name the table has is
	// left out.
	Gathered []*dto.MetricFamily
}

// bufferSize is how much is rendered before it is handed to the connection.
const bufferSize = 64 << 10

// Write renders the page. Families of the page's sides are announced even if
// they have no sample.
func (p *Page) Write(w io.Writer, f Format) error {
	pw := &pageWriter{w: w, format: f, buf: make([]byte, 0, bufferSize+4096), taken: p.names()}
	for i := range p.Table.families {
		family := &p.Table.families[i]
		if family.Sides&p.Sides == 0 {
			continue
		}
		name := pw.header(family.Name, family.Type, family.Help)
		for _, r := range p.Rows {
			prefix := r.prefixes[family.Identity]
			for _, s := range r.of(i) {
				pw.sample(name, s.suffix, prefix, s.labels, s.value)
			}
		}
		if pw.err != nil {
			return pw.err
		}
	}
	for _, mf := range p.Gathered {
		if _, ours := p.Table.byName[mf.GetName()]; !ours {
			pw.gathered(mf)
		}
	}
	if f == OpenMetrics {
		pw.buf = append(pw.buf, "# EOF\n"...)
	}
	pw.flush(0)
	return pw.err
}

// names returns the names of all families of the page.
func (p *Page) names() map[string]struct{} {
	m := make(map[string]struct{}, len(p.Table.families)+len(p.Gathered))
	for i := range p.Table.families {
		if p.Table.families[i].Sides&p.Sides != 0 {
			m[p.Table.families[i].Name] = struct{}{}
		}
	}
	for _, mf := range p.Gathered {
		m[mf.GetName()] = struct{}{}
	}
	return m
}

type pageWriter struct {
	w      io.Writer
	format Format
	buf    []byte
	taken  map[string]struct{}
	err    error
}

// header writes HELP and TYPE and returns the name under which samples go. In
// OpenMetrics a counter is announced without "_total", unless that name belongs
// to another family or the suffix is missing: then it is unknown.
func (pw *pageWriter) header(name string, typ Type, help string) string {
	announced, written := name, string(typ)
	if pw.format == Text && typ == Untyped {
		written = "untyped"
	}
	if pw.format == OpenMetrics && typ == Counter {
		base, cut := strings.CutSuffix(name, "_total")
		if _, taken := pw.taken[base]; cut && !taken {
			announced = base
		} else {
			written = string(Untyped)
		}
	}
	pw.buf = append(pw.buf, "# HELP "...)
	pw.buf = append(pw.buf, announced...)
	pw.buf = append(pw.buf, ' ')
	pw.help(help)
	pw.buf = append(pw.buf, "\n# TYPE "...)
	pw.buf = append(pw.buf, announced...)
	pw.buf = append(pw.buf, ' ')
	pw.buf = append(pw.buf, written...)
	pw.buf = append(pw.buf, '\n')
	pw.flush(bufferSize)
	return name
}

func (pw *pageWriter) help(s string) {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\\':
			pw.buf = append(pw.buf, `\\`...)
		case c == '\n':
			pw.buf = append(pw.buf, `\n`...)
		case c == '"' && pw.format == OpenMetrics:
			pw.buf = append(pw.buf, `\"`...)
		default:
			pw.buf = append(pw.buf, c)
		}
	}
}

func (pw *pageWriter) sample(name, suffix, prefix, labels string, value float64) {
	b := append(pw.buf, name...)
	b = append(b, suffix...)
	if prefix != "" || labels != "" {
		b = append(b, '{')
		b = append(b, prefix...)
		if prefix != "" && labels != "" {
			b = append(b, ',')
		}
		b = append(b, labels...)
		b = append(b, '}')
	}
	b = append(b, ' ')
	b = appendValue(b, value)
	pw.buf = append(b, '\n')
	pw.flush(bufferSize)
}

// flush hands the buffer on if it holds at least limit bytes.
func (pw *pageWriter) flush(limit int) {
	if len(pw.buf) < limit || pw.err != nil {
		if pw.err != nil {
			pw.buf = pw.buf[:0]
		}
		return
	}
	_, pw.err = pw.w.Write(pw.buf)
	pw.buf = pw.buf[:0]
}

// appendValue writes a number; whole ones, which most are, the fast way.
func appendValue(b []byte, v float64) []byte {
	switch {
	case v == math.Trunc(v) && math.Abs(v) < 1<<53:
		return strconv.AppendInt(b, int64(v), 10)
	case math.IsInf(v, 1):
		return append(b, "+Inf"...)
	case math.IsInf(v, -1):
		return append(b, "-Inf"...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}
