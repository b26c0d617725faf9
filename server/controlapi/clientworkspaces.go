package controlapi

import (
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
)

// clientWorkspace is a workspace as clients know it (contract client-api.md
// section 4). There are no builds here: a workspace that exists is started, by
// one build that succeeded when it was made and never changes, because a client
// takes another build for a restart and ends its session. Ids and times that are
// not known are left out: an empty string would end the client.
type clientWorkspace struct {
	ID                    uuid.UUID    `json:"id"`
	CreatedAt             time.Time    `json:"created_at"`
	UpdatedAt             time.Time    `json:"updated_at"`
	OwnerID               uuid.UUID    `json:"owner_id"`
	OwnerName             string       `json:"owner_name"`
	OrganizationID        uuid.UUID    `json:"organization_id"`
	TemplateID            uuid.UUID    `json:"template_id"`
	TemplateName          string       `json:"template_name"`
	TemplateDisplayName   string       `json:"template_display_name"`
	LatestBuild           clientBuild  `json:"latest_build"`
	Outdated              bool         `json:"outdated"`
	Name                  string       `json:"name"`
	LastUsedAt            time.Time    `json:"last_used_at"`
	Health                clientHealth `json:"health"`
	AutomaticUpdates      string       `json:"automatic_updates"`
	AllowRenames          bool         `json:"allow_renames"`
	TemplateActiveVersion uuid.UUID    `json:"template_active_version_id"`
}

type clientHealth struct {
	Healthy       bool        `json:"healthy"`
	FailingAgents []uuid.UUID `json:"failing_agents"`
}

type clientBuild struct {
	ID                  uuid.UUID        `json:"id"`
	CreatedAt           time.Time        `json:"created_at"`
	UpdatedAt           time.Time        `json:"updated_at"`
	WorkspaceID         uuid.UUID        `json:"workspace_id"`
	WorkspaceName       string           `json:"workspace_name"`
	OwnerID             uuid.UUID        `json:"workspace_owner_id"`
	OwnerName           string           `json:"workspace_owner_name"`
	TemplateVersionID   uuid.UUID        `json:"template_version_id"`
	TemplateVersionName string           `json:"template_version_name"`
	BuildNumber         int              `json:"build_number"`
	Transition          string           `json:"transition"`
	InitiatorID         uuid.UUID        `json:"initiator_id"`
	InitiatorName       string           `json:"initiator_name"`
	Job                 clientJob        `json:"job"`
	Reason              string           `json:"reason"`
	Resources           []clientResource `json:"resources"`
	Status              string           `json:"status"`
}

type clientJob struct {
	ID          uuid.UUID `json:"id"`
	CreatedAt   time.Time `json:"created_at"`
	StartedAt   time.Time `json:"started_at"`
	CompletedAt time.Time `json:"completed_at"`
	Status      string    `json:"status"`
}

type clientResource struct {
	ID        uuid.UUID     `json:"id"`
	CreatedAt time.Time     `json:"created_at"`
	JobID     uuid.UUID     `json:"job_id"`
	Type      string        `json:"type"`
	Name      string        `json:"name"`
	Agents    []clientAgent `json:"agents"`
}

// What stands where a client wants a transition and a status.
const (
	transitionStart = "start"
	transitionStop  = "stop"
	statusRunning   = "running"
	statusStopped   = "stopped"
)

// part is the id of something that belongs to a workspace and is not stored.
func part(workspace uuid.UUID, what string) uuid.UUID { return uuid.NewSHA1(workspace, []byte(what)) }

// templateID is that of a template's name or of one of its versions.
func templateID(t ...string) uuid.UUID {
	id := uuid.Nil
	for _, name := range t {
		id = uuid.NewSHA1(id, []byte("template/"+name))
	}
	return id
}

func (a *API) asClientWorkspace(ws catalog.Workspace) clientWorkspace {
	version := templateID(ws.Template.Name, ws.Template.Version)
	job := part(ws.ID, "job")
	out := clientWorkspace{
		ID: ws.ID, CreatedAt: ws.CreatedAt, UpdatedAt: ws.CreatedAt, OwnerID: ws.OwnerID, OwnerName: ws.OwnerName,
		TemplateID: templateID(ws.Template.Name), TemplateName: ws.Template.Name, TemplateDisplayName: ws.Template.Name,
		Name: ws.Name, LastUsedAt: ws.CreatedAt, Health: clientHealth{Healthy: true, FailingAgents: []uuid.UUID{}},
		AutomaticUpdates: "never", TemplateActiveVersion: version,
		LatestBuild: clientBuild{
			ID: part(ws.ID, "build"), CreatedAt: ws.CreatedAt, UpdatedAt: ws.CreatedAt, WorkspaceID: ws.ID, WorkspaceName: ws.Name,
			OwnerID: ws.OwnerID, OwnerName: ws.OwnerName, TemplateVersionID: version, TemplateVersionName: ws.Template.Version,
			BuildNumber: 1, Transition: transitionStart, InitiatorID: ws.OwnerID, InitiatorName: ws.OwnerName, Reason: "initiator", Status: statusRunning,
			Job: clientJob{ID: job, CreatedAt: ws.CreatedAt, StartedAt: ws.CreatedAt, CompletedAt: ws.CreatedAt, Status: "succeeded"},
		},
	}
	resource := clientResource{ID: part(ws.ID, "resource"), CreatedAt: ws.CreatedAt, JobID: job, Type: "workspace", Name: ws.Name, Agents: []clientAgent{}}
	for _, agent := range ws.Agents {
		c := a.asClientAgent(agent, ws)
		resource.Agents = append(resource.Agents, c)
		if c.Status != statusConnected {
			out.Health.Healthy = false
			out.Health.FailingAgents = append(out.Health.FailingAgents, agent.ID)
		}
	}
	out.LatestBuild.Resources = []clientResource{resource}
	return out
}

func (a *API) clientWorkspace(w http.ResponseWriter, r *http.Request, who catalog.User) {
	if ws, ok := a.find(w, r, who); ok {
		a.reply(w, http.StatusOK, a.asClientWorkspace(ws))
	}
}

func (a *API) clientWorkspaceByName(w http.ResponseWriter, r *http.Request, who catalog.User) {
	if ws, ok := a.findByName(w, r, who); ok {
		a.reply(w, http.StatusOK, a.asClientWorkspace(ws))
	}
}
