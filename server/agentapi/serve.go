package agentapi

import (
	"context"
	"time"

	"github.com/coder/websocket"
	"storj.io/drpc"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

// serveSession begins a session, which goes on after the request: there are
// thousands, and the HTTP server keeps 20 KB for each request that is served. end
// is called when the session has ended. ctx bounds the beginning alone.
func (s *Service) serveSession(ctx context.Context, id catalog.Identity, token, version string, k kind, ws *websocket.Conn, end func()) {
	life, cancel := context.WithCancelCause(context.Background())
	over := func() {
		cancel(nil)
		_ = ws.CloseNow() // it may be closed
		end()
	}
	open, ok := s.open(id.Agent.ID, k, cancel)
	if !ok {
		_ = ws.Close(websocket.StatusGoingAway, "the server is stopping")
		over()
		return
	}
	log := s.log.With("workspace", id.Workspace.Name, "agent", id.Agent.Name, "owner", id.Owner.Username, "helper", k == helper)
	api := &session{s: s, open: open, version: version, log: log}
	if err := api.begin(ctx, token); err != nil {
		log.Warn("begin the session of an agent", "err", err)
		_ = ws.Close(websocket.StatusTryAgainLater, "the session could not be begun")
		over()
		s.ended(open)
		return
	}
	handler := guarded{s.methods.Handler(api, s.o.Tailnet(id.Agent.ID, cancel)), s.c, log}
	log.Info("agent connected", "api_version", version)
	go func() { // sessions.close waits for it
		defer s.ended(open)
		defer over()
		api.serve(life, handler, ws)
	}()
}

// serve serves calls until the session ends.
func (a *session) serve(ctx context.Context, handler drpc.Handler, ws *websocket.Conn) {
	err := wire.Serve(ctx, websocket.NetConn(ctx, ws, websocket.MessageBinary), handler, wire.ServeOptions{
		PingInterval: a.s.o.PingInterval,
		OnPing: func() error {
			if a.open.kind == monitored {
				a.s.heartbeats.beat(a.open.agent)
			}
			return nil
		},
		Log: func(err error) { a.log.Debug("call of an agent", "err", err) },
	})
	a.log.Info("agent disconnected", "reason", err)
}

// begin reads the identity again, now that a change of it would end the session:
// what was read before that may be out of date.
func (a *session) begin(ctx context.Context, token string) (err error) {
	a.known = time.Now()
	if a.id, err = a.s.o.Catalog.AgentByToken(ctx, token); err != nil {
		return err
	}
	if a.open.kind != monitored {
		return nil
	}
	if err := a.s.o.Catalog.SetConnected(ctx, a.id.Agent.ID, a.version, time.Now()); err != nil {
		return err
	}
	a.s.o.Publisher.AgentBegan(a.id.Workspace.ID, a.id.Agent.Name)
	return nil
}

// ended notes that a session is over. Whether the agent is away is decided when
// that is written: it may be back by then.
func (s *Service) ended(open *openSession) {
	s.sessions.remove(open)
	if open.kind == monitored {
		s.heartbeats.ended(open.agent)
	}
}
