package agentpty

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
)

func seeds(f *testing.F) {
	names, err := filepath.Glob(filepath.Join("..", "..", "testdata", "vectors", "pty", "*-client-to-agent.bin"))
	if err != nil || len(names) == 0 {
		f.Fatal("no vectors", err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// FuzzClient reads what a client may send: the hello and the messages after it.
func FuzzClient(f *testing.F) {
	seeds(f)
	f.Add([]byte("\x02\x00{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		h, err := readHello(r)
		if err != nil {
			return
		}
		if h.ID == uuid.Nil {
			t.Fatal("a hello without ID")
		}
		in := newMessages(r)
		for range len(data) + 1 {
			if _, err := in.next(); err != nil {
				return
			}
		}
		t.Fatal("more messages than bytes")
	})
}
