package controlapi

import (
	"log/slog"
	"net/http"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/worktally/worktally/server/catalog"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 1 << 20

// Options configure the API. Catalog is required.
type Options struct {
	Catalog *catalog.Catalog
	// Log receives errors that are not the caller's. Nil discards it.
	Log *slog.Logger
	// Registerer receives the API's metrics. Nil keeps them private.
	Registerer prometheus.Registerer
	// OnChange is called after each change of a workspace, before the answer, by
	// the goroutine of the request. Nil does nothing.
	OnChange func(Change)
	// Build is the answer of /api/v2/buildinfo.
	Build Build
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

// api is the handler's state.
type api struct {
	o       Options
	limiter *limiter
	metrics *metrics
}

// New returns the handler. It answers every path, unknown ones with 404.
func New(o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnChange == nil {
		o.OnChange = func(Change) {}
	}
	a := &api{o: o, limiter: newLimiter(), metrics: newMetrics(o.Registerer)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("OK"))
	})
	mux.HandleFunc("GET /api/v2/buildinfo", func(w http.ResponseWriter, _ *http.Request) { a.reply(w, http.StatusOK, o.Build) })
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
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.fail(w, http.StatusNotFound, Problem{Message: "Route not found.", Detail: r.Method + " " + r.URL.Path})
	})
	// A browser sends the cookie along with forms of other sites.
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		a.fail(w, http.StatusForbidden, Problem{Message: "Requests from other sites are not allowed."})
	}))
	return guard.Handler(mux)
}
