package wiretest

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/protobuf/proto"
	"storj.io/drpc"
)

// Conn is a session without a network: every call is answered in the caller's
// goroutine.
type Conn struct {
	s      *Service
	number int
	once   sync.Once
	closed chan struct{}
}

var _ drpc.Conn = (*Conn)(nil)

// NewConn starts a session.
func (s *Service) NewConn() *Conn {
	return &Conn{s: s, number: s.newSession(), closed: make(chan struct{})}
}

// Close ends the session.
func (c *Conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// Closed implements drpc.Conn.
func (c *Conn) Closed() <-chan struct{} { return c.closed }

// Invoke implements drpc.Conn.
func (c *Conn) Invoke(ctx context.Context, rpc string, _ drpc.Encoding, in, out drpc.Message) error {
	select {
	case <-c.closed:
		return io.EOF
	case <-ctx.Done():
		return ctx.Err()
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		response proto.Message
		cut      bool
		err      error
	}
	answers := make(chan answer, 1)
	request := proto.Clone(in.(proto.Message))
	go func() {
		response, cut, err := c.s.answer(ctx, c.number, rpc, request)
		answers <- answer{response, cut, err}
	}()
	select {
	case a := <-answers:
		if a.cut {
			_ = c.Close()
		}
		if a.err != nil {
			return a.err
		}
		proto.Merge(out.(proto.Message), a.response)
		return nil
	case <-c.closed:
		return io.EOF
	case <-ctx.Done():
		return ctx.Err()
	}
}

// NewStream implements drpc.Conn; the Agent service has no streams.
func (c *Conn) NewStream(context.Context, string, drpc.Encoding) (drpc.Stream, error) {
	return nil, errors.New("the Agent service has no streams")
}
