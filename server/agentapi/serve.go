package agentapi

import (
	"context"
	"strconv"
	"time"

	"github.com/coder/websocket"
	"storj.io/drpc"

	"github.com/worktally/worktally/server/audit"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

// serveSession begins a session, which goes on after the request: there are
// thousands, and the HTTP server keeps 20 KB for each request that is served. end
// is called when the session has ended. ctx bounds the beginning alone.
func (s *Service) serveSession(ctx context.Context, address string, id catalog.Identity, token, version string, k kind, ws *websocket.Conn, end func()) {
	life, cancel := context.WithCancelCause(context.Background())
	over := func() {
		cancel(nil)
		_ = ws.CloseNow() // it may be closed
		end()
	}
	open, ok := s.open(id.Agent.ID, k, token, cancel)
	if !ok {
		_ = ws.Close(websocket.StatusGoingAway, "the server is stopping")
		over()
		return
	}
	log := s.log.With("workspace", id.Workspace.Name, "agent", id.Agent.Name, "owner", id.Owner.Username, "helper", k == helper)
	api := &session{s: s, open: open, version: version, log: log}
	if err := api.begin(ctx); err != nil {
		log.Warn("begin the session of an agent", "err", err)
		_ = ws.Close(websocket.StatusTryAgainLater, "the session could not be begun")
		over()
		s.ended(open)
		return
	}
	handler := guarded{s.methods.Handler(api, s.o.Tailnet(id.Agent.ID, cancel)), s.c, log}
	log.Info("agent connected", "api_version", version)
	s.o.Audit.Record(api.event(audit.AgentConnected, address))
	go func() { // sessions.close waits for it
		defer s.ended(open)
		defer over()
		e := api.event(audit.AgentDisconnected, address)
		e.Reason = api.serve(life, handler, ws)
		s.o.Audit.Record(e)
	}()
}

// event is what happens to the session.
func (a *session) event(name, address string) audit.Event {
	e := audit.Event{
		Name: name, Owner: a.id.Owner.Username, Workspace: a.id.Workspace.Name, Agent: a.id.Agent.Name, Address: address,
		ID: strconv.FormatUint(a.open.number, 10),
	}
	if a.open.kind == helper {
		e.Kind = "helper"
	}
	return e
}

// serve serves calls until the session ends, and says why it did.
func (a *session) serve(ctx context.Context, handler drpc.Handler, ws *websocket.Conn) (reason string) {
	err := wire.Serve(ctx, websocket.NetConn(ctx, ws, websocket.MessageBinary), handler, wire.ServeOptions{
		PingInterval: a.s.o.PingInterval,
		OnPing: func() error {
			if a.open.kind == monitored {
				a.s.heartbeats.beat(a.open.agent)
			}
			return nil
		},
		OnBroken: func() { a.s.c.add("worktally_agent_rejected_total", "reason", rejectedBroken, 1) },
		Log:      func(err error) { a.log.Debug("call of an agent", "err", err) },
	})
	if cause := context.Cause(ctx); cause != nil {
		err = cause // rather than what it led to
	}
	a.log.Info("agent disconnected", "reason", err)
	if err == nil {
		return ""
	}
	return err.Error()
}

// begin writes down that the session is there.
func (a *session) begin(ctx context.Context) (err error) {
	a.known = time.Now()
	if a.id, err = a.s.identify(ctx, a.open); err != nil {
		return err
	}
	a.s.sessions.show(a.open, shownOf(a.id))
	if a.open.kind != monitored {
		return nil
	}
	id, version, now := a.id.Agent.ID, a.version, a.s.o.Now()
	err = a.s.late.try(ctx, id, lateConnected, func(ctx context.Context) error {
		return a.s.o.Catalog.SetConnected(ctx, id, version, now)
	})
	if err != nil {
		return err
	}
	a.s.o.Publisher.AgentBegan(ctx, a.id, a.known)
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
