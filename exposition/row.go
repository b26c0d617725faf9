package exposition

import (
	"encoding/binary"
	"math"
	"strconv"
	"unsafe"
)

// Names are the identity labels of an agent.
type Names struct {
	AgentName, Username, WorkspaceName string
	// TemplateName is left out of the labels if empty: unknown is no label.
	TemplateName string
}

// Row is the immutable state of one source. It may be read by any number of
// writers at once.
//
// All that rows of many agents have in common is in their shape. What is a row's
// own lies in one piece of memory without pointers, so that a scrape fetches it
// at once and the garbage collector does not look at it:
//
//	n+1 ends   of the values, the first is 0; 2 bytes each, or 4 if n > maxNarrow
//	n values   as they are written, each with its line feed
//	identity   the labels of AgentTemplate, of which those of Agent are the head
//
// Values are kept as text, because most are short numbers: 0 takes two bytes, and
// a scrape formats nothing.
type Row struct {
	shape *shape
	data  string
	// agent and template are the lengths of the identity labels.
	agent, template uint32
}

// maxNarrow is how many values surely need no more than 64 KiB.
const maxNarrow = math.MaxUint16 / maxValue

// maxValue is the length of the longest number and its line feed.
const maxValue = len("-2.2250738585072014e-308\n")

// Len is the number of samples of the row.
func (r *Row) Len() int { return r.shape.n }

// TextSize is how many bytes the row's samples take in the text format.
func (r *Row) TextSize() int {
	n := r.Len()
	values := len(r.data) - int(r.template) - (n+1)*endSize(n)
	return r.shape.text + r.shape.identities[Agent]*int(r.agent) + r.shape.identities[AgentTemplate]*int(r.template) + values
}

// identity returns the rendered labels of an identity.
func (r *Row) identity(id Identity) string {
	whole := r.data[len(r.data)-int(r.template):]
	switch id {
	case Agent:
		return whole[:r.agent]
	case AgentTemplate:
		return whole
	}
	return ""
}

func endSize(n int) int {
	if n > maxNarrow {
		return 4
	}
	return 2
}

// line returns the i-th value with its line feed.
func (r *Row) line(i int) string {
	n := r.shape.n
	if n > maxNarrow {
		ends := bytesOf(r.data[4*i : 4*i+8])
		start := 4 * (n + 1)
		return r.data[start+int(binary.LittleEndian.Uint32(ends)) : start+int(binary.LittleEndian.Uint32(ends[4:]))]
	}
	both := binary.LittleEndian.Uint32(bytesOf(r.data[2*i : 2*i+4]))
	start := 2 * (n + 1)
	return r.data[start+int(both&math.MaxUint16) : start+int(both>>16)]
}

// bytesOf looks at a string as bytes, which are only read.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// value returns the i-th value as a number.
func (r *Row) value(i int) float64 {
	s := r.line(i)
	v, err := strconv.ParseFloat(s[:len(s)-1], 64)
	if err != nil {
		panic("BUG: exposition: value of a row: " + err.Error())
	}
	return v
}

// pack lays the values and the identity out as a row has them.
func pack(n int, identity string, appendLine func(b []byte, i int) []byte) string {
	size := endSize(n)
	start := (n + 1) * size
	b := make([]byte, start, start+8*n+len(identity))
	for i := range n {
		b = appendLine(b, i)
		if size == 2 {
			binary.LittleEndian.PutUint16(b[2*(i+1):], uint16(len(b)-start))
		} else {
			binary.LittleEndian.PutUint32(b[4*(i+1):], uint32(len(b)-start))
		}
	}
	return string(append(b, identity...)) // without what is left of the capacity
}

// Value is the value of a family without labels of its own.
type Value struct {
	Family string
	Value  float64
}

// With returns the row with other values. What the row does not have is left out.
func (r *Row) With(t *Table, values ...Value) *Row {
	changed := make(map[int]float64, len(values))
	for _, v := range values {
		if f, known := t.byName[v.Family]; known {
			if first, places := r.shape.of(f); len(places) == 1 {
				changed[first] = v.Value
			}
		}
	}
	row := *r
	row.data = pack(r.Len(), r.identity(AgentTemplate), func(b []byte, i int) []byte {
		if v, other := changed[i]; other {
			return append(appendValue(b, v), '\n')
		}
		return append(b, r.line(i)...)
	})
	return &row
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
