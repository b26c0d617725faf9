package agentpty

import (
	"bytes"
	"unicode/utf8"
)

// replayBytes is how much output a terminal remembers.
const replayBytes = 64 << 10

// ring holds the last output of a terminal. The zero value is empty; memory
// comes with the output.
type ring struct {
	buf []byte
	// next is where the next byte goes once buf has its full length.
	next    int
	wrapped bool
}

func (r *ring) write(p []byte) {
	if free := replayBytes - len(r.buf); free > 0 {
		n := min(free, len(p))
		r.buf = append(r.buf, p[:n]...)
		p = p[n:]
	}
	if len(p) == 0 {
		return
	}
	r.wrapped = true
	p = p[max(0, len(p)-replayBytes):]
	n := copy(r.buf[r.next:], p)
	if n < len(p) {
		r.next = copy(r.buf, p[n:])
		return
	}
	r.next = (r.next + n) % replayBytes
}

// replay returns a copy of what is remembered. If older output was forgotten it
// starts where a terminal can start to read: at a line, an escape sequence, or
// at least a rune.
func (r *ring) replay() []byte {
	out := append(make([]byte, 0, len(r.buf)), r.buf[r.next:]...)
	out = append(out, r.buf[:r.next]...)
	if !r.wrapped {
		return out
	}
	if i := bytes.IndexAny(out[:min(len(out), 4096)], "\n\x1b"); i >= 0 {
		if out[i] == '\n' {
			i++
		}
		return out[i:]
	}
	for i := range min(len(out), utf8.UTFMax) {
		if utf8.RuneStart(out[i]) {
			return out[i:]
		}
	}
	return out
}
