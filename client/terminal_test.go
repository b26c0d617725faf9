package client

import (
	"bytes"
	"encoding/json"
	"net"
	"strings"
	"testing"
)

// sink takes what is written.
type sink struct {
	net.Conn
	buf bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) { return s.buf.Write(p) }

// TestTerminal_CharactersInPieces: reads of a terminal end anywhere, characters do
// not.
func TestTerminal_CharactersInPieces(t *testing.T) {
	want := "añ水🙂" + strings.Repeat("я", 5)
	for size := 1; size < 9; size++ {
		s := new(sink)
		terminal := &Terminal{Conn: s}
		for rest := []byte(want); len(rest) > 0; rest = rest[min(size, len(rest)):] {
			if _, err := terminal.Write(rest[:min(size, len(rest))]); err != nil {
				t.Fatal(err)
			}
		}
		got := ""
		for d := json.NewDecoder(&s.buf); d.More(); {
			var m struct{ Data string }
			if err := d.Decode(&m); err != nil {
				t.Fatal(err)
			}
			got += m.Data
		}
		if got != want {
			t.Errorf("pieces of %d: %q", size, got)
		}
	}
}
