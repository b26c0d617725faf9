package main

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/worktally/worktally/internal/retry"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// agent speaks the real protocol and does nothing else that an agent does. It
// belongs to one goroutine.
type agent struct {
	url     string
	token   string
	history history
	// streams says that it opens the streams of the tailnet.
	streams bool
}

// fleet makes agents of the server at an address.
func fleet(address string, of []known) []*agent {
	agents := make([]*agent, len(of))
	for i, k := range of {
		agents[i] = &agent{
			url: "http://" + address + "/api/v2/workspaceagents/me/rpc?version=2.4&role=agent", token: k.token,
			history: history{workspace: k.workspace, epoch: uuid.New()},
		}
	}
	return agents
}

// session is one session with the server.
type session struct {
	conn *wire.Client
	api  agentpb.DRPCAgentClient
}

// open does what an agent does until it has nothing to say: dial, manifest,
// startup, hello.
func (a *agent) open(ctx context.Context) (s *session, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, a.url, &websocket.DialOptions{
		HTTPHeader: http.Header{wire.TokenHeader: {a.token}}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	conn, err := wire.NewClient(websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
	if err != nil {
		return nil, err
	}
	s = &session{conn: conn, api: agentpb.NewDRPCAgentClient(conn)}
	if err := a.begin(ctx, s); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

func (a *agent) begin(ctx context.Context, s *session) error {
	if _, err := s.api.GetManifest(ctx, &agentpb.GetManifestRequest{}); err != nil {
		return err
	}
	if _, err := s.api.UpdateStartup(ctx, &agentpb.UpdateStartupRequest{
		Startup: &agentpb.Startup{Version: "v2.20.0", ExpandedDirectory: "/workspace"},
	}); err != nil {
		return err
	}
	if _, err := s.api.UpdateStats(ctx, a.history.hello()); err != nil || !a.streams {
		return err
	}
	return openStreams(s.conn)
}

// openStreams opens those that an agent has open all the time. They live as long
// as the session.
func openStreams(conn *wire.Client) error {
	tailnet := tailnetpb.NewDRPCTailnetClient(conn)
	relays, err := tailnet.StreamDERPMaps(context.Background(), &tailnetpb.StreamDERPMapsRequest{})
	if err != nil {
		return err
	}
	if _, err := relays.Recv(); err != nil {
		return err
	}
	_, err = tailnet.Coordinate(context.Background())
	return err
}

// report sends a window and waits for its acknowledgement.
func (a *agent) report(ctx context.Context, s *session) error {
	resp, err := s.api.UpdateStats(ctx, a.history.next())
	if err != nil {
		return err
	}
	return a.history.acknowledged(resp)
}

// openAll opens a session for each agent, some at a time, and a function to close
// them.
func openAll(ctx context.Context, agents []*agent) (sessions []*session, closeAll func(), err error) {
	sessions = make([]*session, len(agents))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for i, a := range agents {
		g.Go(func() (err error) {
			sessions[i], err = a.open(ctx)
			return err
		})
	}
	err = g.Wait()
	closeAll = func() {
		var wg sync.WaitGroup
		for _, s := range sessions {
			if s != nil {
				wg.Go(func() { _ = s.conn.Close() })
			}
		}
		wg.Wait()
	}
	if err != nil {
		closeAll()
	}
	return sessions, closeAll, err
}

// keeper keeps agents connected as reportclient does.
type keeper struct {
	interval    time.Duration
	up          atomic.Int64 // sessions that are open
	established atomic.Int64 // sessions that were
	reports     atomic.Int64 // that were acknowledged
	failed      atomic.Int64 // attempts to connect, and reports
}

// keep holds a session of one agent, dialled again with the agent's own delays,
// until the context ends. It reports at a random moment of the interval first.
func (k *keeper) keep(ctx context.Context, a *agent) {
	delay := retry.New(100*time.Millisecond, 10*time.Second)
	for ctx.Err() == nil {
		began, before := time.Now(), a.history.sequence
		if s, err := a.open(ctx); err != nil {
			k.failed.Add(1)
		} else {
			k.hold(ctx, a, s)
		}
		if a.history.sequence > before || time.Since(began) >= 10*time.Second {
			delay.Reset()
		}
		_ = delay.Wait(ctx) // the loop asks
	}
}

func (k *keeper) hold(ctx context.Context, a *agent, s *session) {
	k.up.Add(1)
	k.established.Add(1)
	defer k.up.Add(-1)
	defer s.conn.Close()
	due := time.NewTimer(jitter(k.interval))
	defer due.Stop()
	for {
		select {
		case <-due.C:
			call, cancel := context.WithTimeout(ctx, 30*time.Second)
			err := a.report(call, s)
			cancel()
			if err != nil {
				k.failed.Add(1)
				return
			}
			k.reports.Add(1)
			due.Reset(k.interval)
		case <-s.conn.Closed():
			return
		case <-ctx.Done():
			return
		}
	}
}
