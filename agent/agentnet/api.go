package agentnet

import (
	"net/http"
	"time"

	"github.com/worktally/worktally/wire"
)

// Options of the HTTP API.
type Options struct {
	// Debug serves everything below /debug. Required.
	Debug http.Handler
	// Netcheck returns what is known about the network; nil means nothing is.
	Netcheck func() NetInfo
	// HiddenPorts are not offered as ports of the workspace.
	HiddenPorts func() []uint16
	// Home is where directories are listed from; "" means the user's home.
	Home string
}

// NewAPI returns the HTTP API. It asks nobody who they are: whoever reaches it
// was let in by the tailnet.
func NewAPI(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		wire.WriteJSON(w, http.StatusOK, wire.Error{Message: "Hello from the agent!"})
	})
	ports := &portScanner{hidden: o.HiddenPorts, root: "/proc"}
	mux.HandleFunc("GET /api/v0/listening-ports", ports.serve)
	mux.HandleFunc("GET /api/v0/netcheck", func(w http.ResponseWriter, _ *http.Request) { serveNetcheck(w, o.Netcheck) })
	mux.HandleFunc("POST /api/v0/list-directory", func(w http.ResponseWriter, r *http.Request) { listDirectory(w, r, o.Home) })
	mux.HandleFunc("GET /api/v0/containers", func(w http.ResponseWriter, _ *http.Request) {
		wire.WriteError(w, http.StatusForbidden, wire.Error{
			Message: "Dev Container feature not enabled.", Detail: "This agent does not support dev containers; CODER_AGENT_DEVCONTAINERS_ENABLE=true has no effect.",
		})
	})
	mux.Handle("/debug/", o.Debug)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		wire.WriteError(w, http.StatusNotFound, wire.Error{Message: "Route not found."})
	})
	return mux
}

// The limits of a request (contract tailnet.md section 7).
const (
	ReadTimeout  = 20 * time.Second
	WriteTimeout = 20 * time.Second
)
