package splice

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// maxDatagram is the largest payload of UDP.
const maxDatagram = 64 << 10

// Datagrams passes datagrams between two connections that keep their borders,
// until both have been silent for as long as idle or one is closed. It closes both.
func Datagrams(a, b net.Conn, idle time.Duration) {
	var once sync.Once
	end := func() { once.Do(func() { _ = a.Close(); _ = b.Close() }) }
	defer end()
	silence := time.AfterFunc(idle, end)
	defer silence.Stop()
	var wg sync.WaitGroup
	pass := func(dst, src net.Conn) {
		defer end()
		buf := make([]byte, maxDatagram)
		for {
			n, err := src.Read(buf)
			if errors.Is(err, syscall.ECONNREFUSED) {
				continue // what an earlier datagram met; the next may be luckier
			}
			if err != nil {
				return
			}
			silence.Reset(idle)
			if _, err := dst.Write(buf[:n]); errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
				return
			}
		}
	}
	wg.Go(func() { pass(a, b) })
	wg.Go(func() { pass(b, a) })
	wg.Wait()
}
