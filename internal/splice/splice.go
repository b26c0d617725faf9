// Package splice connects two connections with each other.
package splice

import (
	"io"
	"net"
	"sync"
)

// Both copies in both directions until both have ended, and passes the end of
// each direction on. The caller closes the connections.
func Both(a, b net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { pass(a, b) })
	wg.Go(func() { pass(b, a) })
	wg.Wait()
}

// pass copies one direction. Its orderly end becomes the end of what the other
// side reads; anything else ends both connections.
func pass(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if h, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		_ = h.CloseWrite()
		return
	}
	_ = dst.Close()
	_ = src.Close()
}
