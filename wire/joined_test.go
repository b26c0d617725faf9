package wire

import (
	"net"
	"slices"
	"testing"
)

// writes notes each write.
type writes struct {
	net.Conn
	all []string
}

func (w *writes) Write(p []byte) (int, error) {
	w.all = append(w.all, string(p))
	return len(p), nil
}

func TestJoined(t *testing.T) {
	const (
		update = "\x00\x01\x00\x01\x00\x00\x00\x01\x00\x00\x00\x05" // a window of 5
		end    = "\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x00" // data without a body
		data   = "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x0c"
		body   = "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x07" // as long as a header, and like one
	)
	w := &writes{}
	j := &joined{Conn: w}
	for _, p := range []string{update, data, body, data, body, end} {
		if n, err := j.Write([]byte(p)); n != len(p) || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
	}
	if want := []string{update, data + body, data + body, end}; !slices.Equal(w.all, want) {
		t.Errorf("%q, want %q", w.all, want)
	}
	long := make([]byte, 64<<10)
	for _, p := range [][]byte{[]byte("\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01\x00\x00"), long} {
		if _, err := j.Write(p); err != nil {
			t.Error(err)
		}
	}
	if len(w.all[4]) != frameHeader+len(long) || j.buf != nil {
		t.Errorf("%d bytes, %d kept", len(w.all[4]), cap(j.buf))
	}
}
