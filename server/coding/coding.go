// Package coding compresses the server's pages: gzip and zstd of
// klauspost/compress, which are several times as fast as the standard library's
// gzip. They are kept out of the agent, whose page is small and whose binary
// should be.
package coding

import (
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/worktally/worktally/exposition"
)

// All returns the codings, the preferred first.
func All() []exposition.Coding {
	return []exposition.Coding{{Name: "zstd", New: newZstd}, {Name: "gzip", New: newGzip}}
}

// newGzip: the lowest level costs a fraction of the next ones and makes a page
// little larger, as it repeats itself.
func newGzip() exposition.Encoder {
	z, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	if err != nil {
		panic("BUG: coding: gzip: " + err.Error())
	}
	return z
}

// window is how far back zstd looks. What repeats itself on a page is near, and
// the default of 4 MiB would be memory for each scrape.
const window = 128 << 10

func newZstd() exposition.Encoder {
	z, err := zstd.NewWriter(io.Discard, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(window))
	if err != nil {
		panic("BUG: coding: zstd: " + err.Error())
	}
	return z
}
