package webserve

import "net"

// CountFailures tells of connections that the system could not accept, as it does
// when there are no descriptors left. Whoever serves the listener tries again
// after a moment.
func CountFailures(l net.Listener, failed func()) net.Listener { return countedListener{l, failed} }

type countedListener struct {
	net.Listener
	failed func()
}

// Accept implements net.Listener.
func (l countedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if t, ok := err.(interface{ Temporary() bool }); ok && t.Temporary() {
		l.failed()
	}
	return nc, err
}
