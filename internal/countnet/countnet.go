// Package countnet counts the payload of connections.
package countnet

import (
	"net"
	"sync"
)

// Flow takes the counts of one connection.
type Flow interface {
	Received(n int)
	Sent(n int)
	// Close ends the flow; it is called once.
	Close()
}

// Listen wraps a listener: every accepted connection reports its bytes to a flow
// of its own.
func Listen(l net.Listener, open func() Flow) net.Listener { return &listener{Listener: l, open: open} }

type listener struct {
	net.Listener
	open func() Flow
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, flow: l.open()}, nil
}

// conn hides everything of the connection but net.Conn, so that no copy can go
// past the counting.
type conn struct {
	net.Conn
	flow  Flow
	close sync.Once
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.flow.Received(n)
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.flow.Sent(n)
	return n, err
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.close.Do(c.flow.Close)
	return err
}

// CloseWrite ends the sending direction, where the connection can.
func (c *conn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}
