package controlapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"storj.io/drpc"
	"storj.io/drpc/drpcmux"

	"github.com/worktally/worktally/server/audit"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// Peer is a person's client as a peer of the tailnet. It may reach one agent.
type Peer struct{ ID, AgentID, UserID uuid.UUID }

// coordinate serves the Tailnet service to a client (contract client-api.md
// section 6). What is wrong for good is answered with 400, 404 or 409: on most
// other answers a client tries again for ever and says nothing.
func (a *API) coordinate(w http.ResponseWriter, r *http.Request, who catalog.User) {
	id, ok := a.findAgent(w, r, who)
	if !ok {
		return
	}
	if err := clientVersion(r); err != nil {
		a.fail(w, http.StatusBadRequest, wire.Error{Message: "Unknown or unsupported API version",
			Validations: []wire.Validation{{Field: "version", Detail: err.Error()}}})
		return
	}
	peer := Peer{ID: uuid.New(), AgentID: id.Agent.ID, UserID: who.ID}
	if text := r.URL.Query().Get("resume_token"); text != "" {
		var err error
		if peer, err = a.resumed(text, peer); err != nil {
			a.metrics.resumeRefused.Inc()
			a.fail(w, http.StatusUnauthorized, wire.Error{Message: "Invalid resume token.",
				Validations: []wire.Validation{{Field: "resume_token", Detail: err.Error()}}})
			return
		}
	}
	s := &session{user: who, agent: peer.AgentID, peer: peer.ID}
	ctx, done, ok := a.begin(w, r, s, func() error { return a.mayReach(r, who, peer.AgentID) })
	if !ok {
		return
	}
	defer done()
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		a.o.Log.Debug("upgrade to websocket", "err", err) // Accept has answered
		return
	}
	ws.SetReadLimit(-1)
	defer ws.CloseNow()
	e := audit.Event{Name: audit.ClientConnected, Owner: id.Owner.Username, Workspace: id.Workspace.Name, Agent: id.Agent.Name, ID: peer.ID.String()}
	a.record(r, who, e)
	e.Name, e.Reason = audit.ClientDisconnected, a.serveClient(ctx, s, peer, ws)
	a.record(r, who, e)
}

// clientVersion checks the version of the Tailnet service that a client asks for:
// all minor versions are served, and no version is the first, which is not.
func clientVersion(r *http.Request) error {
	asked := r.URL.Query().Get("version")
	if asked == "" {
		asked = "1.0"
	}
	v, err := wire.ParseVersion(asked)
	if err != nil {
		return err
	}
	if v.Major != wire.Major || v.Minor < 0 {
		return fmt.Errorf("version %s is not served, only %d.x", v, wire.Major)
	}
	return nil
}

// resumed returns the peer that a client was before.
func (a *API) resumed(text string, fresh Peer) (Peer, error) {
	t, err := parseResume(a.o.ResumeKey, text, a.o.Now())
	if err != nil {
		return Peer{}, err
	}
	if t.agent != fresh.AgentID || t.user != fresh.UserID {
		return Peer{}, errors.New("the token is for another agent or person")
	}
	fresh.ID = t.peer
	return fresh, nil
}

// mayReach asks again whether a person may reach an agent.
func (a *API) mayReach(r *http.Request, who catalog.User, agent uuid.UUID) error {
	now, err := a.o.Catalog.UserByToken(r.Context(), tokenOf(r))
	if err != nil {
		return err
	}
	id, err := a.o.Catalog.AgentByID(r.Context(), agent)
	if err == nil && (now.ID != who.ID || !now.MayUse(id.Workspace)) {
		err = fmt.Errorf("agent %s: %w", agent, catalog.ErrNotFound)
	}
	return err
}

func (a *API) serveClient(ctx context.Context, s *session, peer Peer, ws *websocket.Conn) (reason string) {
	log := a.o.Log.With("peer", peer.ID, "agent_id", peer.AgentID, "user", s.user.Username)
	a.metrics.clients.Inc()
	defer a.metrics.clients.Dec()
	mux := drpcmux.New()
	api := &clientAPI{DRPCTailnetServer: a.o.Service(peer, s.end), a: a, s: s, peer: peer}
	if err := tailnetpb.DRPCRegisterTailnet(mux, api); err != nil {
		panic("BUG: controlapi: " + err.Error())
	}
	log.Debug("client connected")
	err := wire.Serve(ctx, websocket.NetConn(ctx, ws, websocket.MessageBinary), guarded{mux, a}, wire.ServeOptions{
		OnBroken: a.metrics.broken.Inc,
		Log:      func(err error) { log.Debug("call of a client", "err", err) },
	})
	if cause := context.Cause(ctx); cause != nil {
		err = cause // rather than what it led to
	}
	log.Debug("client disconnected", "reason", err)
	if err == nil {
		return ""
	}
	return err.Error()
}

// clientAPI is the Tailnet service for one session of a client.
type clientAPI struct {
	tailnetpb.DRPCTailnetServer
	a    *API
	s    *session
	peer Peer
}

// Coordinate holds the client's stream.
func (c *clientAPI) Coordinate(stream tailnetpb.DRPCTailnet_CoordinateStream) error {
	return c.DRPCTailnetServer.Coordinate(revocable{stream, c.s})
}

// revocable is a stream on which nothing arrives once the right to it has ended.
type revocable struct {
	tailnetpb.DRPCTailnet_CoordinateStream
	s *session
}

// Recv implements the stream.
func (r revocable) Recv() (*tailnetpb.CoordinateRequest, error) {
	m, err := r.DRPCTailnet_CoordinateStream.Recv()
	if err == nil && r.s.revoked.Load() {
		return nil, errRevoked
	}
	return m, err
}

// RefreshResumeToken returns what lets the client be the same peer later.
func (c *clientAPI) RefreshResumeToken(context.Context, *tailnetpb.RefreshResumeTokenRequest) (*tailnetpb.RefreshResumeTokenResponse, error) {
	t := resumeToken{peer: c.peer.ID, agent: c.peer.AgentID, user: c.peer.UserID, expires: c.a.o.Now().Add(resumeValid)}
	return &tailnetpb.RefreshResumeTokenResponse{
		Token: signResume(c.a.o.ResumeKey, t), RefreshIn: durationpb.New(resumeRefresh), ExpiresAt: timestamppb.New(t.expires),
	}, nil
}

// PostTelemetry thanks for what nobody asked for.
func (c *clientAPI) PostTelemetry(context.Context, *tailnetpb.TelemetryRequest) (*tailnetpb.TelemetryResponse, error) {
	return &tailnetpb.TelemetryResponse{}, nil
}

// guarded turns a panic in a call into an error of that call: a mistake of ours
// costs one answer, and neither the session nor the process.
type guarded struct {
	drpc.Handler
	a *API
}

// HandleRPC implements drpc.Handler.
func (g guarded) HandleRPC(stream drpc.Stream, rpc string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			g.a.metrics.panics.Inc()
			g.a.o.Log.Error("a call of a client panicked", "rpc", rpc, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errors.New("internal error of the server; its log tells more")
		}
	}()
	return g.Handler.HandleRPC(stream, rpc)
}
