package controlapi

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/audit"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

// silentAfter is how long an agent that was not heard of still counts as
// connected, should its server have ended without noting it.
const silentAfter = time.Minute

// Workspace is a workspace in answers.
type Workspace struct {
	ID        uuid.UUID        `json:"id"`
	Name      string           `json:"name"`
	OwnerID   uuid.UUID        `json:"owner_id"`
	Owner     string           `json:"owner"`
	Template  catalog.Template `json:"template"`
	CreatedAt time.Time        `json:"created_at"`
	Agents    []Agent          `json:"agents"`
}

// Agent is an agent in answers.
type Agent struct {
	ID   uuid.UUID `json:"id"`
	Name string    `json:"name"`
	// Status is connecting (never seen), connected or disconnected.
	Status           string    `json:"status"`
	Lifecycle        string    `json:"lifecycle_state"`
	Version          string    `json:"version"`
	APIVersion       string    `json:"api_version"`
	FirstConnectedAt time.Time `json:"first_connected_at,omitzero"`
	LastConnectedAt  time.Time `json:"last_connected_at,omitzero"`
	DisconnectedAt   time.Time `json:"disconnected_at,omitzero"`
}

// Applied is the answer to a workspace document.
type Applied struct {
	Workspace Workspace `json:"workspace"`
	Created   bool      `json:"created"`
	// PreviousName is set if the workspace was renamed.
	PreviousName string `json:"previous_name,omitempty"`
	// Tokens are those of new agents, by agent name. They cannot be read again.
	Tokens map[string]string `json:"tokens"`
	// Removed are the names of the agents that are gone.
	Removed []string `json:"removed_agents"`
}

func (a *API) asWorkspace(w catalog.Workspace) Workspace {
	out := Workspace{ID: w.ID, Name: w.Name, OwnerID: w.OwnerID, Owner: w.OwnerName, Template: w.Template, CreatedAt: w.CreatedAt, Agents: []Agent{}}
	for _, agent := range w.Agents {
		s := agent.State
		out.Agents = append(out.Agents, Agent{
			ID: agent.ID, Name: agent.Name, Status: statusOf(s, a.o.Now()), Lifecycle: lifecycle(s.Lifecycle),
			Version: s.Version, APIVersion: s.APIVersion,
			FirstConnectedAt: s.FirstConnectedAt, LastConnectedAt: s.LastConnectedAt, DisconnectedAt: s.DisconnectedAt,
		})
	}
	return out
}

// The states of an agent.
const (
	statusConnecting   = "connecting" // never seen
	statusConnected    = "connected"
	statusDisconnected = "disconnected"
)

func statusOf(s catalog.AgentState, now time.Time) string {
	switch {
	case s.FirstConnectedAt.IsZero():
		return statusConnecting
	case !s.DisconnectedAt.IsZero(), now.Sub(s.LastConnectedAt) > silentAfter:
		return statusDisconnected
	}
	return statusConnected
}

// listWorkspaces shows one's own, and administrators everybody's or those of
// ?owner=.
func (a *API) listWorkspaces(w http.ResponseWriter, r *http.Request, who catalog.User) {
	owner := who.ID
	switch name := r.URL.Query().Get("owner"); {
	case name == "me" || name == who.Username || (name == "" && !who.Admin):
	case !who.Admin:
		a.fail(w, http.StatusForbidden, wire.Error{Message: "Only an administrator may do this."})
		return
	case name == "":
		owner = uuid.Nil
	default:
		u, err := a.o.Catalog.UserByName(r.Context(), name)
		if err != nil {
			a.failErr(w, r, err)
			return
		}
		owner = u.ID
	}
	workspaces, err := a.o.Catalog.Workspaces(r.Context(), owner)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	list := []Workspace{}
	for _, ws := range workspaces {
		list = append(list, a.asWorkspace(ws))
	}
	a.reply(w, http.StatusOK, list)
}

// find returns the workspace in the path if who may use it. Somebody else's is
// not found, like one that does not exist; false if it has answered.
func (a *API) find(w http.ResponseWriter, r *http.Request, who catalog.User) (catalog.Workspace, bool) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		a.fail(w, http.StatusBadRequest, wire.Error{Message: "The request is not valid.",
			Validations: []wire.Validation{{Field: "id", Detail: "want the UUID of a workspace"}}})
		return catalog.Workspace{}, false
	}
	ws, err := a.o.Catalog.Workspace(r.Context(), id)
	if err == nil && !who.MayUse(ws) {
		err = fmt.Errorf("workspace %s: %w", id, catalog.ErrNotFound)
	}
	if err != nil {
		a.failErr(w, r, err)
		return catalog.Workspace{}, false
	}
	return ws, true
}

func (a *API) getWorkspace(w http.ResponseWriter, r *http.Request, who catalog.User) {
	if ws, ok := a.find(w, r, who); ok {
		a.reply(w, http.StatusOK, a.asWorkspace(ws))
	}
}

func (a *API) workspaceByName(w http.ResponseWriter, r *http.Request, who catalog.User) {
	if ws, ok := a.findByName(w, r, who); ok {
		a.reply(w, http.StatusOK, a.asWorkspace(ws))
	}
}

// findByName is find for a path with the owner, who may be me, and the name.
func (a *API) findByName(w http.ResponseWriter, r *http.Request, who catalog.User) (catalog.Workspace, bool) {
	owner, name := r.PathValue("owner"), r.PathValue("name")
	if owner == "me" {
		owner = who.Username
	}
	ws, err := a.o.Catalog.WorkspaceByName(r.Context(), owner, name)
	if (err == nil && !who.MayUse(ws)) || errors.Is(err, catalog.ErrNotFound) {
		err = fmt.Errorf("workspace %s/%s: %w", owner, name, catalog.ErrNotFound)
	}
	if err != nil {
		a.failErr(w, r, err)
		return catalog.Workspace{}, false
	}
	return ws, true
}

// applyWorkspace creates or changes the workspace that the document names.
func (a *API) applyWorkspace(w http.ResponseWriter, r *http.Request, who catalog.User) {
	a.apply(w, r, who, func(spec catalog.Spec) (catalog.Applied, error) {
		return a.o.Catalog.Apply(r.Context(), who, spec)
	})
}

// changeWorkspace changes the workspace in the path, including its name.
func (a *API) changeWorkspace(w http.ResponseWriter, r *http.Request, who catalog.User) {
	ws, ok := a.find(w, r, who)
	if !ok {
		return
	}
	a.apply(w, r, who, func(spec catalog.Spec) (catalog.Applied, error) {
		return a.o.Catalog.ApplyTo(r.Context(), who, ws.ID, spec)
	})
}

func (a *API) apply(w http.ResponseWriter, r *http.Request, who catalog.User, do func(catalog.Spec) (catalog.Applied, error)) {
	text, ok := a.body(w, r)
	if !ok {
		return
	}
	spec, err := catalog.ParseSpec("workspace", text)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	applied, err := do(spec)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	out := Applied{Workspace: a.asWorkspace(applied.Workspace), Created: applied.Created,
		PreviousName: applied.PreviousName, Tokens: applied.Tokens, Removed: []string{}}
	change := Change{Workspace: applied.Workspace, PreviousName: applied.PreviousName}
	for _, gone := range applied.Removed {
		out.Removed = append(out.Removed, gone.Name)
		change.Revoked = append(change.Revoked, gone.ID)
	}
	a.changed(change)
	status, event := http.StatusOK, audit.WorkspaceChanged
	if applied.Created {
		status, event = http.StatusCreated, audit.WorkspaceCreated
	}
	a.recordOn(r, who, event, applied.Workspace)
	a.reply(w, status, out)
}

func (a *API) deleteWorkspace(w http.ResponseWriter, r *http.Request, who catalog.User) {
	ws, ok := a.find(w, r, who)
	if !ok {
		return
	}
	gone, err := a.o.Catalog.DeleteWorkspace(r.Context(), ws.ID)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	change := Change{Workspace: gone, Deleted: true}
	for _, agent := range gone.Agents {
		change.Revoked = append(change.Revoked, agent.ID)
	}
	a.changed(change)
	a.recordOn(r, who, audit.WorkspaceDeleted, gone)
	w.WriteHeader(http.StatusNoContent)
}

// Rotate is the request for a new token of an agent; it may be left out.
type Rotate struct {
	// GraceSeconds is how long the old token stays valid, 0 not at all.
	GraceSeconds int64 `json:"grace_seconds,omitempty"`
}

func (a *API) rotateAgentToken(w http.ResponseWriter, r *http.Request, who catalog.User) {
	ws, ok := a.find(w, r, who)
	if !ok {
		return
	}
	var req Rotate
	if r.ContentLength != 0 && !a.decode(w, r, &req) {
		return
	}
	// A number of seconds that is no duration is out of bounds, too.
	grace := time.Duration(min(max(req.GraceSeconds, -1), int64(2*catalog.MaxGrace/time.Second))) * time.Second
	rotation, err := a.o.Catalog.ReplaceAgentToken(r.Context(), ws.ID, r.PathValue("agent"), grace)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	out := Token{Token: rotation.Token}
	if grace == 0 {
		a.changed(Change{Workspace: ws, Revoked: []uuid.UUID{rotation.AgentID}})
	} else {
		out.OldEnds = &rotation.OldEnds
		a.o.OnToken(catalog.TokenNotice{Agent: rotation.AgentID})
	}
	a.record(r, who, audit.Event{Name: audit.TokenRotated, Owner: ws.OwnerName, Workspace: ws.Name, Agent: r.PathValue("agent")})
	a.reply(w, http.StatusOK, out)
}
