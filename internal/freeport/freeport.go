// Package freeport finds ports for programs that tests start and that have to be
// told theirs.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken from where systems do not take those of outgoing connections and
// of listeners on port 0 (RFC 6335 has them from 49152 on, Linux from 32768): a
// port of that range may be another's by the time that it is listened on.
const (
	first = 10_000
	last  = 30_000
)

// Get returns a TCP port of loopback that nobody listened on a moment ago. No two
// callers get the same, as long as the processes live in which they called: whoever has
// a port may not listen on it yet, or not at the moment, because it starts a program
// again.
func Get() (int, error) {
	var errs []error
	for range 20 {
		port := first + rand.IntN(last-first)
		if err := reserve(port); err != nil {
			errs = append(errs, err)
			continue
		}
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err == nil {
			return port, l.Close()
		}
		errs = append(errs, err)
	}
	return 0, fmt.Errorf("no free port: %w", errors.Join(errs...))
}
