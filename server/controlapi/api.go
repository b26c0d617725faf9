package controlapi

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/worktally/worktally/internal/loginlimit"
	"github.com/worktally/worktally/server/audit"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/gitauth"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 1 << 20

// The bounds of people's invalid tokens; see loginlimit.
const (
	failureBurst = 20
	failureEvery = 10 * time.Second
	maxGood      = 1024
)

// Options configure the API. Catalog is required.
type Options struct {
	Catalog *catalog.Catalog
	// Log receives errors that are not the caller's. Nil discards it.
	Log *slog.Logger
	// Now is the wall clock, which stored times are compared with; nil means time.Now.
	Now func() time.Time
	// Registerer receives the API's metrics. Nil keeps them private.
	Registerer prometheus.Registerer
	// OnChange is called after each change of a workspace, before the answer, by
	// the goroutine of the request. Nil does nothing.
	OnChange func(Change)
	// OnToken is called after a token was replaced and the sessions here that must not
	// go on were ended, by the goroutine of the request. Nil does nothing.
	OnToken func(catalog.TokenNotice)
	// Audit takes down who connects and who changes what; nil does not.
	Audit *audit.Log
	// Seen is told who called, after the token was found valid. It must not block.
	// Nil does nothing.
	Seen func(userID uuid.UUID)
	// MayAddUser returns why there may not be one more user, as shown to the
	// administrator. Nil allows as many as one likes.
	MayAddUser func() error
	// Git keeps accounts at git providers and SSH keys. Nil means that there are
	// none.
	Git *gitauth.Service
	// OnEvent is called after events about templates, builds and jobs were stored, and
	// after an e-mail address changed. It must not block. Nil does nothing.
	OnEvent func()
	// Build is the answer of /api/v2/buildinfo.
	Build Build
	Tailnet
}

// Tailnet is how people's clients reach agents. Without Service there is no way.
type Tailnet struct {
	// Service returns the Tailnet service for one session of a client. It may end
	// the session.
	Service func(p Peer, end context.CancelCauseFunc) tailnetpb.DRPCTailnetServer
	// EndPeers ends the streams of peers that may not reach their agents any more;
	// their partners forget them at once. Required with Service.
	EndPeers func(ids ...uuid.UUID)
	// DERPMap returns the relay map. It must have home params, and a node in every
	// region. Required with Service.
	DERPMap func() *tailnetpb.DERPMap
	// BlockDirect keeps clients on relays, ForceWebsockets makes them reach relays
	// by websocket.
	BlockDirect, ForceWebsockets bool
	// HostnameSuffix is the domain under which clients name workspaces for SSH; ""
	// means none.
	HostnameSuffix string
	// ResumeKey signs the tokens with which a client that has lost its connection is
	// the same peer again. The servers of a deployment share it; nil means a random
	// one, and every client is a new peer after a restart.
	ResumeKey []byte
}

// Build is what the server says about itself.
type Build struct {
	ExternalURL     string `json:"external_url"`
	Version         string `json:"version"`
	DashboardURL    string `json:"dashboard_url"`
	Telemetry       bool   `json:"telemetry"`
	WorkspaceProxy  bool   `json:"workspace_proxy"`
	AgentAPIVersion string `json:"agent_api_version"`
	DeploymentID    string `json:"deployment_id"`
}

// Change says what happened to a workspace.
type Change struct {
	// Workspace is its new state, or its last one if Deleted.
	Workspace catalog.Workspace
	Deleted   bool
	// PreviousName is set if the workspace was renamed.
	PreviousName string
	// Revoked are the agents whose tokens are no longer valid: deleted, removed
	// from the workspace, or given a new token. Their sessions have to end.
	Revoked []uuid.UUID
}

// API is the handler. It is safe for concurrent use.
type API struct {
	o        Options
	limiter  *loginlimit.Limiter
	metrics  *metrics
	sessions *sessions
	mux      *http.ServeMux
	routes   []string // of ourselves; a test compares them with the document
	handler  http.Handler
}

// New returns the handler. It answers every path, unknown ones with 404.
func New(o Options) *API {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnChange == nil {
		o.OnChange = func(Change) {}
	}
	if o.OnToken == nil {
		o.OnToken = func(catalog.TokenNotice) {}
	}
	if o.Seen == nil {
		o.Seen = func(uuid.UUID) {}
	}
	if o.MayAddUser == nil {
		o.MayAddUser = func() error { return nil }
	}
	if o.OnEvent == nil {
		o.OnEvent = func() {}
	}
	if o.ResumeKey == nil {
		o.ResumeKey = make([]byte, 32)
		_, _ = rand.Read(o.ResumeKey) // never fails
	}
	a := &API{
		o: o, limiter: loginlimit.New(loginlimit.Options{Burst: failureBurst, Every: failureEvery, MaxGood: maxGood}), metrics: newMetrics(o.Registerer),
		sessions: &sessions{endPeers: o.EndPeers, open: make(map[*session]struct{})},
	}
	mux := http.NewServeMux()
	a.mux = mux
	own := &recorder{mux, &a.routes}
	a.routeOwn(own)
	a.routeGit(own)
	if o.Service != nil {
		a.routeClients(mux)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.fail(w, http.StatusNotFound, wire.Error{Message: "Route not found.", Detail: r.Method + " " + r.URL.Path})
	})
	// A browser sends the cookie along with forms of other sites.
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		a.fail(w, http.StatusForbidden, wire.Error{Message: "Requests from other sites are not allowed."})
	}))
	a.handler = guard.Handler(mux)
	return a
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Route returns the pattern of the route that serves a request, "/" if there is
// none.
func (a *API) Route(r *http.Request) string {
	_, pattern := a.mux.Handler(r)
	return pattern
}

// Close ends the requests that last, waits for them and refuses new ones.
func (a *API) Close() { a.sessions.close() }

// changed tells everybody of a change of a workspace. Sessions with agents that
// are gone end.
func (a *API) changed(c Change) {
	agents := make([]uuid.UUID, 0, len(c.Workspace.Agents))
	for _, agent := range c.Workspace.Agents {
		agents = append(agents, agent.ID)
	}
	a.revokeGone(c.Deleted, agents, c.Revoked)
	a.o.OnChange(c)
	a.sessions.signal()
}

// ChangedElsewhere is for a change of a workspace that another server on the database
// made: agents are those that the workspace has, revoked those whose tokens are no
// longer valid. Options.OnChange is not called.
func (a *API) ChangedElsewhere(deleted bool, agents, revoked []uuid.UUID) {
	a.revokeGone(deleted, agents, revoked)
	a.sessions.signal()
}

// UserChangedElsewhere is for a person who was deleted, or given another token, by
// another server on the database.
func (a *API) UserChangedElsewhere(username string) { a.sessions.revokeUser(username) }

// Recheck ends the sessions of people whose tokens are no longer valid.
func (a *API) Recheck(ctx context.Context) {
	over := make(map[*session]bool)
	for _, o := range a.sessions.matching(func(*session) bool { return true }) {
		now, err := a.o.Catalog.UserByToken(ctx, o.token)
		over[o] = err != nil || now.ID != o.user.ID
	}
	a.sessions.revoke(func(o *session) bool { return over[o] })
}

// revokeGone ends the sessions with agents that are gone, not only their tokens.
func (a *API) revokeGone(deleted bool, agents, revoked []uuid.UUID) {
	a.sessions.revokeAgents(slices.DeleteFunc(slices.Clone(revoked), func(id uuid.UUID) bool {
		return !deleted && slices.Contains(agents, id)
	}))
}

// recorder notes the patterns that it registers.
type recorder struct {
	mux      *http.ServeMux
	patterns *[]string
}

func (r *recorder) Handle(pattern string, h http.Handler) {
	*r.patterns = append(*r.patterns, pattern)
	r.mux.Handle(pattern, h)
}

func (r *recorder) HandleFunc(pattern string, h http.HandlerFunc) { r.Handle(pattern, h) }

// routeOwn adds what only our own clients ask for, and the probes.
func (a *API) routeOwn(mux *recorder) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("OK"))
	})
	mux.HandleFunc("GET /latency-check", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /api/v2/buildinfo", func(w http.ResponseWriter, _ *http.Request) { a.reply(w, http.StatusOK, a.o.Build) })
	const v1 = "/api/worktally/v1"
	mux.Handle("GET "+v1+"/users", a.admin(a.listUsers))
	mux.Handle("POST "+v1+"/users", a.admin(a.createUser))
	mux.Handle("GET "+v1+"/users/me", a.user(a.me))
	mux.Handle("DELETE "+v1+"/users/{name}", a.admin(a.deleteUser))
	mux.Handle("POST "+v1+"/users/{name}/token", a.user(a.rotateUserToken))
	mux.Handle("GET "+v1+"/workspaces", a.user(a.listWorkspaces))
	mux.Handle("POST "+v1+"/workspaces", a.user(a.applyWorkspace))
	mux.Handle("GET "+v1+"/workspaces/{id}", a.user(a.getWorkspace))
	mux.Handle("PUT "+v1+"/workspaces/{id}", a.user(a.changeWorkspace))
	mux.Handle("DELETE "+v1+"/workspaces/{id}", a.user(a.deleteWorkspace))
	mux.Handle("POST "+v1+"/workspaces/{id}/agents/{agent}/token", a.user(a.rotateAgentToken))
	mux.Handle("GET "+v1+"/owners/{owner}/workspaces/{name}", a.user(a.workspaceByName))
	a.routeControl(mux, v1)
}

// routeClients adds what clients ask for that know nothing of us (contract
// client-api.md section 2).
func (a *API) routeClients(mux *http.ServeMux) {
	const v2 = "/api/v2"
	mux.HandleFunc("GET "+v2+"/users/first", a.firstUser)
	mux.HandleFunc("GET "+v2+"/appearance", a.appearance)
	for pattern, h := range map[string]handler{
		"GET /users/{name}":                                a.clientUser,
		"POST /users/{name}/keys":                          a.clientKey,
		"GET /users/{owner}/workspace/{name}":              a.clientWorkspaceByName,
		"GET /workspaces":                                  a.clientWorkspaces,
		"GET /workspaces/{id}":                             a.clientWorkspace,
		"GET /workspaces/{id}/watch":                       a.watch,
		"POST /workspaces/{id}/usage":                      a.usage,
		"GET /workspaceagents/connection":                  a.connection,
		"GET /workspaceagents/{workspaceagent}":            a.clientAgent,
		"GET /workspaceagents/{workspaceagent}/connection": a.agentConnection,
		"GET /workspaceagents/{workspaceagent}/coordinate": a.coordinate,
		"GET /workspaceagents/{workspaceagent}/logs":       a.agentLogs,
		"GET /templateversions/{id}":                       a.templateVersion,
		"GET /deployment/ssh":                              a.sshDeployment,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		mux.Handle(method+" "+v2+path, a.user(h))
	}
}
