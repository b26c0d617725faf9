package exposition

import (
	"compress/gzip"
	"io"
	"sync"
)

// Coding is a content coding that a handler offers.
type Coding struct {
	// Name is what HTTP calls it.
	Name string
	// New returns an encoder, which is used again and again.
	New func() Encoder
}

// Encoder compresses one page after the other.
type Encoder interface {
	io.WriteCloser
	Reset(io.Writer)
}

// plainGzip is the standard library's, which is good enough for a small page.
func plainGzip() Coding {
	return Coding{Name: "gzip", New: func() Encoder {
		z, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
		if err != nil {
			panic("BUG: exposition: gzip level: " + err.Error())
		}
		return z
	}}
}

// codings are those that are offered, each with a pool of encoders.
type codings struct {
	names []string // the preferred first
	pools map[string]*sync.Pool
}

func newCodings(list []Coding) *codings {
	c := &codings{pools: make(map[string]*sync.Pool)}
	for _, coding := range list {
		c.names = append(c.names, coding.Name)
		c.pools[coding.Name] = &sync.Pool{New: func() any { return coding.New() }}
	}
	return c
}

// encode calls write with a writer that compresses into w. Without a pool for the
// coding it is w itself.
func (c *codings) encode(coding string, w io.Writer, write func(io.Writer) error) error {
	pool := c.pools[coding]
	if pool == nil {
		return write(w)
	}
	z := pool.Get().(Encoder)
	z.Reset(w)
	err := write(z)
	if closed := z.Close(); err == nil {
		err = closed
	}
	z.Reset(io.Discard) // the pool keeps no connection
	pool.Put(z)
	return err
}
