package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/worktally/worktally/internal/clienttls"
	"github.com/worktally/worktally/internal/retry"
	"github.com/worktally/worktally/tailnet"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// Options of a connection.
type Options struct {
	API API
	// Workspace is [owner/]workspace[.agent].
	Workspace string
	// DisableDirect keeps to relays even if the server does not ask for it.
	DisableDirect bool
	// WaitTimeout bounds how long Dial waits for the agent; 0 means 2 min.
	WaitTimeout time.Duration
	Log         *slog.Logger
}

// Conn is a way to one agent.
type Conn struct {
	o         Options
	log       *slog.Logger
	Workspace Workspace
	Agent     Agent
	node      *tailnet.Node
	stop      context.CancelFunc
	wg        sync.WaitGroup

	mu     sync.Mutex
	resume string
}

// Dial finds the agent, joins the tailnet and waits until the agent can be
// reached.
func Dial(ctx context.Context, o Options) (*Conn, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.WaitTimeout <= 0 {
		o.WaitTimeout = 2 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, o.WaitTimeout)
	defer cancel()
	c := &Conn{o: o, log: o.Log}
	var err error
	if c.Workspace, c.Agent, err = o.API.Find(ctx, o.Workspace); err != nil {
		return nil, err
	}
	info, err := o.API.ConnectionInfo(ctx, c.Agent.ID)
	if err != nil {
		return nil, err
	}
	if c.node, err = tailnet.New(tailnet.Options{AccessURL: o.API.URL, TLS: clienttls.ConfigOf(o.API.HTTPClient), Log: o.Log}); err != nil {
		return nil, err
	}
	c.node.ForceWebsockets(info.ForceWebsockets)
	c.node.BlockDirect(info.DisableDirect || o.DisableDirect)
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	failed := make(chan error, 1)
	c.wg.Go(func() { c.keepSession(life, failed) })
	reached := make(chan error, 1)
	go func() { reached <- c.node.Reach(ctx, c.Addr()) }()
	select {
	case err = <-failed:
	case err = <-reached:
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("reach workspace %s: %w", o.Workspace, err)
	}
	return c, nil
}

// Addr is the agent's address on the tailnet.
func (c *Conn) Addr() netip.Addr { return tailnet.Primary(c.Agent.ID) }

// Close leaves the tailnet.
func (c *Conn) Close() error {
	c.stop()
	c.wg.Wait()
	return c.node.Close()
}

// DialPort connects to a TCP port of the workspace.
func (c *Conn) DialPort(ctx context.Context, port uint16) (net.Conn, error) {
	return c.node.DialTCP(ctx, netip.AddrPortFrom(c.Addr(), port))
}

// DialDatagrams returns a connection that exchanges datagrams with a UDP port of the
// workspace: one for each Read and Write.
func (c *Conn) DialDatagrams(ctx context.Context, port uint16) (net.Conn, error) {
	return c.node.DialUDP(ctx, netip.AddrPortFrom(c.Addr(), port))
}

// Ping measures the round trip to the agent.
func (c *Conn) Ping(ctx context.Context) (tailnet.PingResult, error) {
	return c.node.Ping(ctx, c.Addr())
}

// errRefused: the server will not let this person reach this agent.
var errRefused = errors.New("the server refuses the connection")

// keepSession holds the session with the coordinator. Only the first attempt can
// fail for good.
func (c *Conn) keepSession(ctx context.Context, failed chan<- error) {
	delay := retry.New(100*time.Millisecond, 10*time.Second)
	quiet := retry.NewLog(c.log, "session with the coordinator")
	for first := true; ctx.Err() == nil; first = false {
		established, err := c.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if first && errors.Is(err, errRefused) {
			failed <- err
			return
		}
		if established {
			delay.Reset()
		}
		quiet.Failed(err)
		if delay.Wait(ctx) != nil {
			return
		}
	}
}

// session is one session with the coordinator.
func (c *Conn) session(ctx context.Context) (established bool, err error) {
	// Saying goodbye needs the connection after the context has ended.
	conn, err := c.dialCoordinator(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	api := tailnetpb.NewDRPCTailnetClient(conn)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		select {
		case <-conn.Closed():
			return errors.New("the server ended the session")
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error { return c.node.FollowRelayMaps(ctx, api) })
	g.Go(func() error { return c.node.Coordinate(ctx, api, c.Agent.ID) })
	g.Go(func() error { return c.refreshResume(ctx, api) })
	return true, g.Wait()
}

func (c *Conn) dialCoordinator(ctx context.Context) (*wire.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	query := url.Values{"version": {"2.0"}}
	c.mu.Lock()
	if c.resume != "" {
		query.Set("resume_token", c.resume)
	}
	c.mu.Unlock()
	u := c.o.API.URL.JoinPath("/api/v2/workspaceagents/", c.Agent.ID.String(), "/coordinate")
	u.RawQuery = query.Encode()
	ws, resp, err := websocket.Dial(ctx, u.String(), &websocket.DialOptions{
		HTTPClient: c.o.API.client(), HTTPHeader: http.Header{wire.TokenHeader: {c.o.API.Token}}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, c.dialError(resp, err)
	}
	ws.SetReadLimit(-1)
	return wire.NewClient(websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
}

// dialError sorts what the server answered: a resume token that is no good is
// forgotten, other answers of this kind are final.
func (c *Conn) dialError(resp *http.Response, err error) error {
	if resp == nil {
		return err
	}
	c.mu.Lock()
	resumed := c.resume != ""
	c.resume = ""
	c.mu.Unlock()
	answer := answerError(resp, readAll(resp))
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		if resumed {
			return answer
		}
		return fmt.Errorf("%w: %w", errRefused, answer)
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusConflict:
		return fmt.Errorf("%w: %w", errRefused, answer)
	}
	return answer
}

// refreshResume keeps a token with which a new session is the same peer.
func (c *Conn) refreshResume(ctx context.Context, api tailnetpb.DRPCTailnetClient) error {
	for {
		callCtx, cancel := context.WithTimeout(ctx, requestTimeout)
		r, err := api.RefreshResumeToken(callCtx, &tailnetpb.RefreshResumeTokenRequest{})
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				c.log.Debug("resume token", "err", err)
			}
			return nil // a session without one is as good
		}
		c.mu.Lock()
		c.resume = r.GetToken()
		c.mu.Unlock()
		wait := r.GetRefreshIn().AsDuration()
		if wait <= 0 {
			wait = 30 * time.Minute
		}
		if retry.Sleep(ctx, wait) != nil {
			return nil
		}
	}
}
