package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
	"storj.io/drpc"
	"storj.io/drpc/drpcconn"
	"storj.io/drpc/drpcerr"
	"storj.io/drpc/drpcmanager"
	"storj.io/drpc/drpcserver"
	"storj.io/drpc/drpcwire"
)

// MaxMessage is the largest message either side accepts, in bytes.
const MaxMessage = 4 << 20

// codeUnimplemented is the only error code that peers tell apart.
const codeUnimplemented = 12

// ErrUnimplemented answers a call that is registered and not served.
var ErrUnimplemented = drpcerr.WithCode(errors.New("Unimplemented"), codeUnimplemented)

// IsUnimplemented says whether the peer answered that it does not serve a call.
func IsUnimplemented(err error) bool { return drpcerr.Code(err) == codeUnimplemented }

func muxConfig(acceptBacklog int) *yamux.Config {
	c := yamux.DefaultConfig()
	c.AcceptBacklog = acceptBacklog
	c.LogOutput = nil
	// yamux reports what the caller learns as an error anyway.
	c.Logger = log.New(io.Discard, "", 0)
	return c
}

func managerOptions() drpcmanager.Options {
	return drpcmanager.Options{Reader: drpcwire.ReaderOptions{MaximumBufferSize: MaxMessage}}
}

// Client is the dialling side of a session. It implements drpc.Conn: each call
// runs on a stream of its own. It is safe for concurrent use.
type Client struct {
	session *yamux.Session
	conn    net.Conn
	// life ends with Close, and with it every streaming call.
	life context.Context
	end  context.CancelFunc
}

var _ drpc.Conn = (*Client)(nil)

// NewClient starts a session on conn and takes it over.
func NewClient(conn net.Conn) (*Client, error) {
	s, err := yamux.Client(&joined{Conn: conn}, muxConfig(256))
	if err != nil {
		return nil, fmt.Errorf("start yamux: %w", err)
	}
	c := &Client{session: s, conn: conn}
	c.life, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Close ends the session and every call on it.
func (c *Client) Close() error {
	c.end()
	return end(c.conn, c.session)
}

// end ends a session. The connection goes first: until it is closed, which takes
// seconds if the peer does not answer, yamux has everybody who reads from a stream
// ask again and again without a pause.
func end(conn net.Conn, session *yamux.Session) error {
	_ = conn.Close() // the session tells
	return session.Close()
}

// Closed is closed when the session has ended.
func (c *Client) Closed() <-chan struct{} { return c.session.CloseChan() }

func (c *Client) open() (*drpcconn.Conn, error) {
	s, err := c.session.OpenStream()
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	return drpcconn.NewWithOptions(prompt{s}, drpcconn.Options{Manager: managerOptions()}), nil
}

// prompt is a stream that is closed at once. By itself yamux lets a reader wait
// until the peer closes its side too, for five minutes: peers whose dRPC got an
// error before a call (the message could not be written) never do.
type prompt struct{ *yamux.Stream }

// Close ends a Read that waits, and closes our side.
func (p prompt) Close() error {
	_ = p.SetReadDeadline(time.Unix(1, 0)) // never fails
	return p.Stream.Close()
}

// Invoke makes one unary call.
func (c *Client) Invoke(ctx context.Context, rpc string, enc drpc.Encoding, in, out drpc.Message) error {
	conn, err := c.open()
	if err != nil {
		return err
	}
	callErr := conn.Invoke(ctx, rpc, enc, in, out)
	if err := conn.Close(); callErr == nil && err != nil && !isClosed(err) {
		return fmt.Errorf("close stream: %w", err)
	}
	return callErr
}

// NewStream starts a streaming call. The yamux stream is closed when the call
// ends, which the caller brings about by closing the stream, its context or the
// session.
func (c *Client) NewStream(ctx context.Context, rpc string, enc drpc.Encoding) (drpc.Stream, error) {
	conn, err := c.open()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.life, cancel)
	stream, err := conn.NewStream(ctx, rpc, enc)
	if err != nil {
		stop()
		cancel()
		_ = conn.Close()
		return nil, err
	}
	context.AfterFunc(stream.Context(), func() {
		stop()
		cancel()
		_ = conn.Close()
	})
	return stream, nil
}

// ServeOptions says how a session is served.
type ServeOptions struct {
	// PingInterval is the time between liveness pings; 0 means 15 s. A peer that
	// does not answer one within 10 s is closed.
	PingInterval time.Duration
	// OnPing is called after each answered ping and once at the start. An error
	// closes the session.
	OnPing func() error
	// MaxStreams bounds the calls that run at once; 0 means 64. Further ones
	// wait until one ends.
	MaxStreams int
	// Log takes errors of single calls; nil drops them.
	Log func(error)
	// CallTimeout bounds how long a stream may take up one of MaxStreams without a
	// call; 0 means 30 s. Then it is closed.
	CallTimeout time.Duration
	// OnBroken is called for each call that the peer broke: with a message larger
	// than MaxMessage, with what is not the protocol, or by not making it within
	// CallTimeout. nil does nothing.
	OnBroken func()
}

// ErrPingTimeout: the peer stopped answering.
var ErrPingTimeout = errors.New("ping timeout")

// Serve serves calls on conn until the context or the peer ends the session,
// and returns why. It waits for the running calls.
func Serve(ctx context.Context, conn net.Conn, handler drpc.Handler, o ServeOptions) error {
	if o.PingInterval <= 0 {
		o.PingInterval = 15 * time.Second
	}
	if o.MaxStreams <= 0 {
		o.MaxStreams = 64
	}
	if o.CallTimeout <= 0 {
		o.CallTimeout = 30 * time.Second
	}
	config := muxConfig(o.MaxStreams) // as many may wait
	config.EnableKeepAlive = false    // the pulse does the same
	session, err := yamux.Server(&joined{Conn: conn}, config)
	if err != nil {
		return fmt.Errorf("start yamux: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = end(conn, session) })
	defer stop()
	manager := managerOptions()
	manager.WriterBufferSize = 512 // each open stream keeps one
	manager.InactivityTimeout = o.CallTimeout
	server := drpcserver.NewWithOptions(handler, drpcserver.Options{Manager: manager, Log: o.Log})
	var wg sync.WaitGroup
	defer startPulse(cancel, session, o).stop()
	acceptErr := acceptStreams(ctx, &wg, session, server, o)
	if context.Cause(ctx) == nil {
		cancel(acceptErr)
	}
	_ = end(conn, session)
	wg.Wait()
	return context.Cause(ctx)
}

func acceptStreams(ctx context.Context, wg *sync.WaitGroup, session *yamux.Session, server *drpcserver.Server, o ServeOptions) error {
	slots := make(chan struct{}, o.MaxStreams)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		stream, err := session.AcceptStream()
		if err != nil {
			if isClosed(err) {
				return io.EOF
			}
			return fmt.Errorf("accept stream: %w", err)
		}
		wg.Go(func() {
			defer func() { <-slots }()
			// A stream without a call is closed while dRPC reads from it.
			ended(ctx, server.ServeOne(ctx, prompt{stream}), o)
		})
	}
}

// ended tells of a stream that did not end as it should.
func ended(ctx context.Context, err error, o ServeOptions) {
	idle := errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
	if !idle && (err == nil || isClosed(err)) {
		return
	}
	if o.OnBroken != nil && (idle || drpc.ProtocolError.Has(err)) {
		o.OnBroken()
	}
	if o.Log != nil {
		o.Log(err)
	}
}

// isClosed says whether an error only means that a stream or session has ended.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, yamux.ErrSessionShutdown) ||
		errors.Is(err, yamux.ErrStreamClosed) || errors.Is(err, context.Canceled) || errors.Is(err, io.ErrClosedPipe) ||
		drpc.ClosedError.Has(err)
}
