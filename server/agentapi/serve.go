package agentapi

import (
	"context"
	"errors"
	"time"

	"github.com/coder/websocket"
	"storj.io/drpc/drpcmux"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// serveSession serves a session until it ends.
func (s *Service) serveSession(ctx context.Context, id catalog.Identity, token, version string, k kind, ws *websocket.Conn) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	open, ok := s.open(id.Agent.ID, k, cancel)
	if !ok {
		_ = ws.Close(websocket.StatusGoingAway, "the server is stopping")
		return
	}
	defer s.ended(open)
	log := s.log.With("workspace", id.Workspace.Name, "agent", id.Agent.Name, "owner", id.Owner.Username, "helper", k == helper)
	api := &session{s: s, open: open, version: version, log: log}
	if err := api.begin(ctx, token); err != nil {
		log.Warn("begin the session of an agent", "err", err)
		_ = ws.Close(websocket.StatusTryAgainLater, "the session could not be begun")
		return
	}
	mux := drpcmux.New()
	if err := errors.Join(
		agentpb.DRPCRegisterAgent(mux, api),
		tailnetpb.DRPCRegisterTailnet(mux, s.o.Tailnet(id.Agent.ID, cancel)),
	); err != nil {
		panic("BUG: agentapi: " + err.Error())
	}
	log.Info("agent connected", "api_version", version)
	err := wire.Serve(ctx, websocket.NetConn(ctx, ws, websocket.MessageBinary), guarded{mux, s.c, log}, wire.ServeOptions{
		PingInterval: s.o.PingInterval,
		OnPing: func() error {
			if k == monitored {
				s.heartbeats.beat(id.Agent.ID)
			}
			return nil
		},
		Log: func(err error) { log.Debug("call of an agent", "err", err) },
	})
	log.Info("agent disconnected", "reason", err)
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
