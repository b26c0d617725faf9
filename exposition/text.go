package exposition

import (
	"io"
	"strings"
	"unsafe"
)

// bufferSize is how much is rendered before it is handed to the connection; slack
// is room for the sample that exceeds it.
const (
	bufferSize = 64 << 10
	slack      = 4 << 10
)

// textWriter writes the text format and OpenMetrics.
type textWriter struct {
	w      io.Writer
	format Format
	buf    []byte
	taken  map[string]struct{} // the names of all families
	err    error
}

// rows writes the samples of a family. Nothing is allocated, formatted or looked
// up per sample.
func (tw *textWriter) rows(family int, identity Identity, rows []*Row) {
	var (
		last         *shape
		at, first    int
		places       []place
		ends, values int // roughly where they are
	)
	for n, r := range rows {
		if n+3*ahead < len(rows) {
			soon := rows[n+2*ahead]
			prefetch(rows[n+3*ahead], unsafe.StringData(soon.data), ends, values, len(soon.data)-int(soon.template))
			if next := rows[n+ahead].shape; soon.shape != last {
				prefetchShape(soon.shape, unsafe.SliceData(next.parts), at*partSize)
			}
		}
		if r.shape != last {
			last, places = r.shape, nil
			var ok bool
			if at, ok = last.find(family, at); ok {
				first, places = int(last.parts[at].first), last.parts[at].places
			}
			ends = first * endSize(last.n)
			values = ends + (last.n+1)*endSize(last.n) // if they are short
		}
		if len(places) == 0 {
			continue
		}
		labels := r.identity(identity)
		for i := range places {
			p := &places[i]
			b := append(tw.buf, p.head...)
			b = append(b, labels...)
			b = append(b, p.tail...)
			tw.buf = append(b, r.line(first+i)...)
			if len(tw.buf) >= bufferSize {
				if tw.flush(0); tw.err != nil {
					return
				}
			}
		}
	}
}

// ahead is how many rows lie between the steps in which what is needed of a row is
// fetched: the row, then its data and its shape, then what the shape points to.
const ahead = 8

// partSize is that of a part of a shape.
const partSize = int(unsafe.Sizeof(part{}))

// header writes HELP and TYPE. In OpenMetrics a counter is announced without
// "_total", unless that name belongs to another family or the suffix is missing:
// then it is unknown.
func (tw *textWriter) header(name string, typ Type, help string) {
	announced, written := name, string(typ)
	if tw.format == Text && typ == Untyped {
		written = "untyped"
	}
	if tw.format == OpenMetrics && typ == Counter {
		base, cut := strings.CutSuffix(name, "_total")
		if _, taken := tw.taken[base]; cut && !taken {
			announced = base
		} else {
			written = string(Untyped)
		}
	}
	b := append(tw.buf, "# HELP "...)
	b = append(b, announced...)
	b = append(b, ' ')
	b = appendEscaped(b, strings.ToValidUTF8(help, "\uFFFD"), tw.format == OpenMetrics)
	b = append(b, "\n# TYPE "...)
	b = append(b, announced...)
	b = append(b, ' ')
	b = append(b, written...)
	tw.buf = append(b, '\n')
	tw.flush(bufferSize)
}

// sample writes one sample of a registry's family.
func (tw *textWriter) sample(name, suffix, labels string, value float64) {
	b := append(tw.buf, name...)
	b = append(b, suffix...)
	if labels != "" {
		b = append(b, '{')
		b = append(b, labels...)
		b = append(b, '}')
	}
	b = append(b, ' ')
	b = appendValue(b, value)
	tw.buf = append(b, '\n')
	tw.flush(bufferSize)
}

// flush hands the buffer on if it holds at least limit bytes.
func (tw *textWriter) flush(limit int) {
	if len(tw.buf) < limit {
		return
	}
	if tw.err == nil {
		_, tw.err = tw.w.Write(tw.buf)
	}
	tw.buf = tw.buf[:0]
}
