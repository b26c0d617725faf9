package controlapi

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

// clientAgent is an agent as clients know it (contract client-api.md section 4).
// Times that are not known are left out.
type clientAgent struct {
	ID                    uuid.UUID         `json:"id"`
	Name                  string            `json:"name"`
	ResourceID            uuid.UUID         `json:"resource_id"`
	Status                string            `json:"status"`
	LifecycleState        string            `json:"lifecycle_state"`
	CreatedAt             time.Time         `json:"created_at"`
	UpdatedAt             time.Time         `json:"updated_at"`
	FirstConnectedAt      time.Time         `json:"first_connected_at,omitzero"`
	LastConnectedAt       time.Time         `json:"last_connected_at,omitzero"`
	DisconnectedAt        time.Time         `json:"disconnected_at,omitzero"`
	StartedAt             time.Time         `json:"started_at,omitzero"`
	ReadyAt               time.Time         `json:"ready_at,omitzero"`
	Version               string            `json:"version"`
	APIVersion            string            `json:"api_version"`
	Directory             string            `json:"directory,omitempty"`
	ExpandedDirectory     string            `json:"expanded_directory,omitempty"`
	LogsOverflowed        bool              `json:"logs_overflowed"`
	ConnectionTimeout     int               `json:"connection_timeout_seconds"`
	Subsystems            []string          `json:"subsystems"`
	Health                clientAgentHealth `json:"health"`
	Scripts               []clientScript    `json:"scripts"`
	LogSources            []clientLogSource `json:"log_sources"`
	Apps                  []clientApp       `json:"apps"`
	DisplayApps           []string          `json:"display_apps"`
	StartupScriptBehavior string            `json:"startup_script_behavior"`
}

type clientAgentHealth struct {
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason,omitempty"`
}

type clientScript struct {
	ID               uuid.UUID `json:"id"`
	LogSourceID      uuid.UUID `json:"log_source_id"`
	LogPath          string    `json:"log_path"`
	Script           string    `json:"script"`
	Cron             string    `json:"cron"`
	RunOnStart       bool      `json:"run_on_start"`
	RunOnStop        bool      `json:"run_on_stop"`
	StartBlocksLogin bool      `json:"start_blocks_login"`
	// Timeout is in nanoseconds.
	Timeout     time.Duration `json:"timeout"`
	DisplayName string        `json:"display_name"`
}

type clientLogSource struct {
	ID          uuid.UUID `json:"id"`
	AgentID     uuid.UUID `json:"workspace_agent_id"`
	CreatedAt   time.Time `json:"created_at"`
	DisplayName string    `json:"display_name"`
	Icon        string    `json:"icon"`
}

type clientApp struct {
	ID           uuid.UUID `json:"id"`
	URL          string    `json:"url,omitempty"`
	External     bool      `json:"external"`
	Slug         string    `json:"slug"`
	DisplayName  string    `json:"display_name"`
	Command      string    `json:"command,omitempty"`
	Icon         string    `json:"icon,omitempty"`
	SharingLevel string    `json:"sharing_level"`
	Hidden       bool      `json:"hidden"`
}

// connectTimeoutSeconds is after how long a client says that an agent takes long
// to connect.
const connectTimeoutSeconds = 120

// asClientAgent describes an agent. What the agent runs is told to those who may
// use the workspace anyway; its environment, which may hold secrets, is not.
func (a *API) asClientAgent(agent catalog.Agent, ws catalog.Workspace) clientAgent {
	s, spec := agent.State, agent.Spec
	out := clientAgent{
		ID: agent.ID, Name: agent.Name, ResourceID: part(ws.ID, "resource"), CreatedAt: ws.CreatedAt, UpdatedAt: ws.CreatedAt,
		Status: statusOf(s, a.o.Now()), LifecycleState: lifecycle(s.Lifecycle),
		FirstConnectedAt: s.FirstConnectedAt, LastConnectedAt: s.LastConnectedAt, DisconnectedAt: s.DisconnectedAt,
		StartedAt: s.StartedAt, ReadyAt: s.ReadyAt, Version: s.Version, APIVersion: s.APIVersion,
		Directory: spec.Directory, ExpandedDirectory: s.ExpandedDirectory, LogsOverflowed: s.LogsOverflowed,
		ConnectionTimeout: connectTimeoutSeconds, Subsystems: []string{}, Scripts: []clientScript{}, LogSources: []clientLogSource{},
		Apps: []clientApp{}, DisplayApps: []string{}, StartupScriptBehavior: "non-blocking",
	}
	if out.Health.Healthy = out.Status == statusConnected; !out.Health.Healthy {
		out.Health.Reason = "agent is " + out.Status
	}
	for _, sub := range s.Subsystems {
		out.Subsystems = append(out.Subsystems, strings.ToLower(sub.String()))
	}
	for _, x := range spec.Scripts {
		out.Scripts = append(out.Scripts, clientScript{
			ID: x.ID, LogSourceID: x.LogSourceID, LogPath: x.LogPath, Script: x.Text, Cron: x.Cron, RunOnStart: x.RunOnStart,
			RunOnStop: x.RunOnStop, StartBlocksLogin: x.StartBlocksLogin, Timeout: x.Timeout, DisplayName: x.Name,
		})
		out.LogSources = append(out.LogSources, clientLogSource{ID: x.LogSourceID, AgentID: agent.ID, CreatedAt: ws.CreatedAt, DisplayName: x.Name})
		if x.StartBlocksLogin {
			out.StartupScriptBehavior = "blocking"
		}
	}
	for _, x := range spec.Apps {
		out.Apps = append(out.Apps, clientApp{
			ID: x.ID, URL: x.URL, External: x.External, Slug: x.Slug, DisplayName: x.DisplayName, Command: x.Command, Icon: x.Icon,
			SharingLevel: strings.ToLower(x.Share.String()), Hidden: x.Hidden,
		})
	}
	return out
}

// lifecycle is how clients call a state. An agent that has told nothing is there
// and has not started.
func lifecycle(s agentpb.Lifecycle_State) string {
	if s == agentpb.Lifecycle_STATE_UNSPECIFIED {
		s = agentpb.Lifecycle_CREATED
	}
	return strings.ToLower(s.String())
}

// findAgent returns the agent in the path if who may use its workspace. Somebody
// else's is not found, like one that does not exist; false if it has answered.
func (a *API) findAgent(w http.ResponseWriter, r *http.Request, who catalog.User) (catalog.Identity, bool) {
	id, err := uuid.Parse(r.PathValue("workspaceagent"))
	if err != nil {
		a.fail(w, http.StatusBadRequest, wire.Error{Message: "The request is not valid.",
			Validations: []wire.Validation{{Field: "id", Detail: "want the UUID of an agent"}}})
		return catalog.Identity{}, false
	}
	agent, err := a.o.Catalog.AgentByID(r.Context(), id)
	if err == nil && !who.MayUse(agent.Workspace) {
		err = fmt.Errorf("look up an agent: agent %s: %w", id, catalog.ErrNotFound)
	}
	if err != nil {
		a.failErr(w, r, err)
		return catalog.Identity{}, false
	}
	return agent, true
}

func (a *API) clientAgent(w http.ResponseWriter, r *http.Request, who catalog.User) {
	id, ok := a.findAgent(w, r, who)
	if !ok {
		return
	}
	added, err := a.o.Catalog.LogSources(r.Context(), id.Agent.ID)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	out := a.asClientAgent(id.Agent, id.Workspace)
	for _, s := range added {
		out.LogSources = append(out.LogSources, clientLogSource{ID: s.ID, AgentID: id.Agent.ID, CreatedAt: s.CreatedAt, DisplayName: s.DisplayName, Icon: s.Icon})
	}
	a.reply(w, http.StatusOK, out)
}
