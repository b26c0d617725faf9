package agentapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/worktally/worktally/server/audit"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

// Register adds the endpoints of agents to a mux.
func (s *Service) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v2/workspaceagents/me/rpc", s.serveRPC)
	mux.HandleFunc("GET /api/v2/workspaceagents/me/reinit", s.serveReinit)
	mux.HandleFunc("GET /api/v2/workspaceagents/me/external-auth", s.serveExternalAuth)
	mux.HandleFunc("GET /api/v2/workspaceagents/me/gitauth", s.serveExternalAuth) // its old name
	mux.HandleFunc("GET /api/v2/workspaceagents/me/gitsshkey", s.serveGitSSHKey)
	mux.HandleFunc("PATCH /api/v2/workspaceagents/me/logs", s.serveLogs)
	mux.HandleFunc("POST /api/v2/workspaceagents/me/log-source", s.serveLogSource)
}

// authenticate finds out which agent is asking. If it cannot, the request is
// answered and ok is false.
func (s *Service) authenticate(w http.ResponseWriter, r *http.Request) (id catalog.Identity, token string, ok bool) {
	token = wire.TokenFrom(r)
	if token == "" {
		s.refuseLogin(w, r, rejectedNoToken, http.StatusUnauthorized, wire.Error{Message: `Cookie "coder_session_token" must be provided.`})
		return id, token, false
	}
	if _, err := uuid.Parse(token); err != nil || len(token) != 36 {
		s.refuseLogin(w, r, rejectedBadToken, http.StatusUnauthorized, wire.Error{
			Message: "Workspace agent token invalid.", Detail: "An agent token must be a valid UUIDv4. (len " + strconv.Itoa(len(token)) + ")",
		})
		return id, token, false
	}
	if !s.limiter.Allow(r.RemoteAddr, token) {
		w.Header().Set("Retry-After", "10")
		s.refuseLogin(w, r, rejectedTooManyFailures, http.StatusTooManyRequests, wire.Error{
			Message: "Too many invalid tokens came from this address.", Detail: "Try again in 10 seconds.",
		})
		return id, token, false
	}
	id, err := s.o.Catalog.AgentByToken(r.Context(), token)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		s.limiter.Failed(r.RemoteAddr, token)
		s.refuseLogin(w, r, rejectedUnknownToken, http.StatusUnauthorized, wire.Error{
			Message: "Workspace agent not authorized.", Detail: "No workspace has an agent with this token: it was rotated, or the workspace was deleted.",
		})
		return id, token, false
	case err != nil:
		s.log.Error("look up agent token", "err", err)
		s.refuse(w, rejectedError, http.StatusInternalServerError, wire.Error{Message: "Internal error checking workspace agent authorization."})
		return id, token, false
	}
	s.limiter.Succeeded(token)
	return id, token, true
}

// refuseLogin is refuse for who has no valid token.
func (s *Service) refuseLogin(w http.ResponseWriter, r *http.Request, reason string, status int, e wire.Error) {
	s.o.Audit.Record(audit.Event{Name: audit.LoginFailed, Kind: "agent", Address: r.RemoteAddr, Reason: reason})
	s.refuse(w, reason, status, e)
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
	select {
	case s.beginning <- struct{}{}:
		defer func() { <-s.beginning }()
	case <-r.Context().Done():
		return
	}
	id, token, ok := s.authenticate(w, r)
	if !ok {
		return
	}
	version, err := negotiate(r)
	if err != nil {
		s.refuse(w, rejectedVersion, http.StatusBadRequest, wire.Error{
			Message: "Unknown or unsupported API version", Validations: []wire.Validation{{Field: "version", Detail: err.Error()}},
		})
		return
	}
	ws, err := websocket.Accept(slim{w}, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		s.refuseUpgrade(w, err)
		return
	}
	ws.SetReadLimit(-1)
	k := monitored
	if role := r.URL.Query().Get("role"); role != "" && role != "agent" {
		k = helper
	}
	s.serveSession(r.Context(), r.RemoteAddr, id, token, version, k, ws, detach(w))
}

// refuseUpgrade adds our kind of error to the line of text with which Accept has
// answered, as the reference does.
func (s *Service) refuseUpgrade(w http.ResponseWriter, err error) {
	s.c.add("worktally_agent_rejected_total", "reason", rejectedUpgrade, 1)
	body, jsonErr := json.Marshal(wire.Error{Message: "Failed to accept websocket.", Detail: err.Error()})
	if jsonErr != nil {
		panic("BUG: agentapi: encode answer: " + jsonErr.Error())
	}
	// The peer may be gone; there is nobody left to tell.
	_, _ = w.Write(append(body, '\n'))
}

// open enters a request of an agent; ok is false when the server is stopping.
func (s *Service) open(agent uuid.UUID, k kind, token string, end context.CancelCauseFunc) (o *openSession, ok bool) {
	o, evicted, ok := s.sessions.add(agent, k, token, end)
	if evicted {
		s.c.add("worktally_agent_rejected_total", "reason", rejectedTooMany, 1)
	}
	return o, ok
}
