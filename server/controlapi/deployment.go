package controlapi

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

// appearance says that this server looks like any other.
func (a *API) appearance(w http.ResponseWriter, _ *http.Request) {
	a.reply(w, http.StatusOK, map[string]any{
		"application_name": "", "logo_url": "", "service_banner": map[string]any{"enabled": false},
		"announcement_banners": []any{}, "support_links": []any{}, "docs_url": "",
	})
}

// sshDeployment says under which names OpenSSH reaches workspaces.
func (a *API) sshDeployment(w http.ResponseWriter, _ *http.Request, _ catalog.User) {
	a.reply(w, http.StatusOK, map[string]any{
		"hostname_prefix": "coder.", "hostname_suffix": a.o.HostnameSuffix, "ssh_config_options": map[string]string{},
	})
}

// templateVersion answers for any id: templates are names here, and a client that
// asks looks for nothing but an answer.
func (a *API) templateVersion(w http.ResponseWriter, r *http.Request, _ catalog.User) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		a.badQuery(w, "id", fmt.Errorf("want the UUID of a template version"))
		return
	}
	a.reply(w, http.StatusOK, map[string]any{"id": id, "warnings": []string{}})
}

// usage takes note that somebody uses a workspace; what is counted comes from the
// agent. Some clients say nothing about it.
func (a *API) usage(w http.ResponseWriter, r *http.Request, who catalog.User) {
	if _, ok := a.find(w, r, who); !ok {
		return
	}
	text, ok := a.body(w, r)
	if !ok {
		return
	}
	var said struct {
		AgentID uuid.UUID `json:"agent_id"`
		AppName string    `json:"app_name"`
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &said); err != nil {
			a.fail(w, http.StatusBadRequest, wire.Error{Message: "The request is not valid.", Detail: err.Error()})
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}
