package agentapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"storj.io/drpc/drpcmux"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// Register adds the endpoints of agents to a mux.
func (s *Service) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v2/workspaceagents/me/rpc", s.serveRPC)
	mux.HandleFunc("GET /api/v2/workspaceagents/me/reinit", s.serveReinit)
}

// authenticate finds out which agent is asking. If it cannot, the request is
// answered and ok is false.
func (s *Service) authenticate(w http.ResponseWriter, r *http.Request) (id catalog.Identity, ok bool) {
	token := wire.TokenFrom(r)
	if token == "" {
		s.refuse(w, "no_token", http.StatusUnauthorized, wire.Error{Message: `Cookie "coder_session_token" must be provided.`})
		return id, false
	}
	if _, err := uuid.Parse(token); err != nil || len(token) != 36 {
		s.refuse(w, "bad_token", http.StatusUnauthorized, wire.Error{
			Message: "Workspace agent token invalid.", Detail: "An agent token must be a valid UUIDv4. (len " + strconv.Itoa(len(token)) + ")",
		})
		return id, false
	}
	id, err := s.o.Catalog.AgentByToken(r.Context(), token)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		s.refuse(w, "unknown_token", http.StatusUnauthorized, wire.Error{
			Message: "Workspace agent not authorized.", Detail: "No workspace has an agent with this token: it was rotated, or the workspace was deleted.",
		})
		return id, false
	case err != nil:
		s.log.Error("look up agent token", "err", err)
		s.refuse(w, "error", http.StatusInternalServerError, wire.Error{Message: "Internal error checking workspace agent authorization."})
		return id, false
	}
	return id, true
}

func (s *Service) refuse(w http.ResponseWriter, reason string, status int, e wire.Error) {
	s.c.add("worktally_agent_rejected_total", "reason", reason, 1)
	wire.WriteError(w, status, e)
}

// negotiate reads the version that the agent asks for; none means 2.0.
func negotiate(r *http.Request) (string, error) {
	asked := r.URL.Query().Get("version")
	if asked == "" {
		asked = "2.0"
	}
	v, err := wire.ParseVersion(asked)
	if err != nil {
		return "", err
	}
	if err := (wire.Version{Major: wire.Major, Minor: wire.ServerMinor}).Accept(v); err != nil {
		return "", err
	}
	return v.String(), nil
}

func (s *Service) serveRPC(w http.ResponseWriter, r *http.Request) {
	id, ok := s.authenticate(w, r)
	if !ok {
		return
	}
	version, err := negotiate(r)
	if err != nil {
		s.refuse(w, "version", http.StatusBadRequest, wire.Error{
			Message: "Unknown or unsupported API version", Validations: []wire.Validation{{Field: "version", Detail: err.Error()}},
		})
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		// Accept has answered with a line of text; the reference adds the error.
		s.refuse(w, "upgrade", http.StatusBadRequest, wire.Error{Message: "Failed to accept websocket.", Detail: err.Error()})
		return
	}
	ws.SetReadLimit(-1)
	defer ws.CloseNow()
	s.serveSession(r.Context(), id, version, !monitored(r), ws)
}

// monitored: a connection with another role than agent does not stand for the
// agent's being there.
func monitored(r *http.Request) bool {
	role := r.URL.Query().Get("role")
	return role == "" || role == "agent"
}

func (s *Service) serveSession(ctx context.Context, id catalog.Identity, version string, helper bool, ws *websocket.Conn) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	log := s.log.With("workspace", id.Workspace.Name, "agent", id.Agent.Name, "owner", id.Owner.Username)
	var number uint64
	if !helper {
		var ok bool
		if number, ok = s.sessions.add(id.Agent.ID, cancel); !ok {
			_ = ws.Close(websocket.StatusGoingAway, "the server is stopping")
			return
		}
		defer s.endSession(id, number)
		if err := s.o.Catalog.SetConnected(ctx, id.Agent.ID, version, time.Now()); err != nil {
			log.Error("note that an agent connected", "err", err)
			return
		}
		s.o.Publisher.AgentChanged()
	}
	mux := drpcmux.New()
	api := &session{s: s, id: id, number: number, helper: helper, version: version, log: log}
	if err := errors.Join(
		agentpb.DRPCRegisterAgent(mux, api),
		tailnetpb.DRPCRegisterTailnet(mux, s.o.Tailnet(id.Agent.ID)),
	); err != nil {
		panic("BUG: agentapi: " + err.Error())
	}
	log.Info("agent connected", "api_version", version, "helper", helper)
	err := wire.Serve(ctx, websocket.NetConn(ctx, ws, websocket.MessageBinary), mux, wire.ServeOptions{
		PingInterval: s.o.PingInterval,
		OnPing: func() error {
			if !helper {
				s.heartbeats.beat(id.Agent.ID)
			}
			return nil
		},
		Log: func(err error) { logCall(log, err) },
	})
	log.Info("agent disconnected", "reason", err)
}

func (s *Service) endSession(id catalog.Identity, number uint64) {
	if s.sessions.remove(id.Agent.ID, number) {
		s.heartbeats.ended(id.Agent.ID)
	}
	s.o.Publisher.AgentChanged()
}

// serveReinit answers that this server never asks an agent to start over. A
// newest agent stops asking; one of 2025 would ask for ever, so it gets a stream
// on which nothing happens.
func (s *Service) serveReinit(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.authenticate(w, r); !ok {
		return
	}
	if strings.EqualFold(r.URL.Query().Get("wait"), "true") {
		wire.WriteError(w, http.StatusConflict, wire.Error{Message: "The workspace is not a prebuilt one."})
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	control := http.NewResponseController(w)
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		if _, err := w.Write([]byte("event: ping\n\n")); err != nil || control.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}
