package agent

import (
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire"
)

// debugLogLimit is how much of the log is shown.
const debugLogLimit = 10 << 20

// DebugHandler serves what helps to find out what is wrong (contract agent-cli.md
// section 4). It shows the environment of the workspace: keep it on loopback.
func (a *Agent) DebugHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/logs", a.debugLogs)
	mux.HandleFunc("GET /debug/manifest", a.debugManifest)
	mux.HandleFunc("/debug/magicsock", noNetwork)
	mux.HandleFunc("/debug/magicsock/debug-logging/{on}", noNetwork)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "404 not found")
	})
	return mux
}

func noNetwork(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "the agent has no tailnet", http.StatusInternalServerError)
}

func (a *Agent) debugLogs(w http.ResponseWriter, _ *http.Request) {
	f, err := os.Open(filepath.Join(a.o.LogDir, LogFile))
	if err != nil {
		http.Error(w, "read the log: "+err.Error(), http.StatusInternalServerError)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.Copy(w, io.LimitReader(f, debugLogLimit)) // the reader may go away
}

// LogFile is the name of the agent's log in the log directory.
const LogFile = "coder-agent.log"

func (a *Agent) debugManifest(w http.ResponseWriter, _ *http.Request) {
	m := a.manifest.Load()
	if m == nil {
		http.Error(w, "the agent has no manifest yet", http.StatusInternalServerError)
		return
	}
	parent := uuid.Nil
	if id, err := wire.UUID("parent_id", m.GetParentId()); err == nil {
		parent = id
	}
	wire.WriteJSON(w, http.StatusOK, map[string]any{
		"parent_id": parent, "agent_id": uuid.UUID(m.GetAgentId()), "agent_name": m.GetAgentName(),
		"owner_name": m.GetOwnerUsername(), "workspace_id": uuid.UUID(m.GetWorkspaceId()), "workspace_name": m.GetWorkspaceName(),
		"git_auth_configs": m.GetGitAuthConfigs(), "vscode_port_proxy_uri": m.GetVsCodePortProxyUri(),
		"apps": m.GetApps(), "derpmap": m.GetDerpMap(), "derp_force_websockets": m.GetDerpForceWebsockets(),
		"environment_variables": m.GetEnvironmentVariables(), "directory": m.GetDirectory(), "motd_file": m.GetMotdPath(),
		"disable_direct_connections": m.GetDisableDirectConnections(), "metadata": m.GetMetadata(), "scripts": m.GetScripts(),
		"devcontainers": m.GetDevcontainers(),
	})
}
