package coding

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// TestAll_AreReadBackAndUsedAgain has a decoder read two pages of one encoder.
func TestAll_AreReadBackAndUsedAgain(t *testing.T) {
	readers := map[string]func(io.Reader) (io.Reader, error){
		"gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"zstd": func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	}
	for _, c := range All() {
		encoder := c.New()
		for _, page := range []string{strings.Repeat("worktally_reports_total 1\n", 10_000), "", "up 1\n"} {
			var b bytes.Buffer
			encoder.Reset(&b)
			if _, err := io.WriteString(encoder, page); err != nil {
				t.Fatal(err)
			}
			if err := encoder.Close(); err != nil {
				t.Fatal(err)
			}
			r, err := readers[c.Name](&b)
			if err != nil {
				t.Fatalf("%s: %v", c.Name, err)
			}
			if got, err := io.ReadAll(r); err != nil || string(got) != page {
				t.Errorf("%s: %d bytes came back as %d, %v", c.Name, len(page), len(got), err)
			}
		}
	}
}
