//go:build amd64 || arm64

package exposition

// prefetch has the processor fetch what a writer will read soon: a row, and of one
// that was fetched before the lines of its data at three offsets. It only hints,
// and may point anywhere.
//
// A page of 100,000 agents does not fit into the cache, and what a scrape costs is
// mostly waiting for memory. The language has no hint for that, hence assembly: it
// makes a scrape 1.7 times as fast, and 4 times if rows lie all over the heap
// (docs/performance.md).
//
//go:noescape
func prefetch(later *Row, data *byte, ends, values, identity int)

// prefetchShape does the same for a shape, and for what one that was fetched before
// has at an offset.
//
//go:noescape
func prefetchShape(later *shape, parts *part, offset int)
