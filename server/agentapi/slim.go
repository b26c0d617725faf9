package agentapi

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
)

// The buffers of a session's websocket. Larger ones would gain nothing: what is
// read goes on into the buffer of the multiplexer, and what is longer passes them.
const (
	readBuffer  = 128
	writeBuffer = 512
)

// slim hands connections over with small buffers: those of net/http are 4 KiB
// each, and there are thousands of quiet connections.
type slim struct{ http.ResponseWriter }

// Hijack implements http.Hijacker.
func (s slim) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	ahead, _ := rw.Reader.Peek(rw.Reader.Buffered()) // they are there
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(ahead)), conn), max(readBuffer, len(ahead)))
	_, _ = r.Peek(len(ahead)) // so that they count as buffered
	return conn, bufio.NewReadWriter(r, bufio.NewWriterSize(conn, writeBuffer)), nil
}

// detach tells whoever counts requests that a connection goes on when its request
// has been served, and returns what to call at its end.
func detach(w http.ResponseWriter) (end func()) {
	if d, ok := w.(interface{ Detach() (end func()) }); ok {
		return d.Detach()
	}
	return func() {}
}
