package controlapi

import (
	"errors"
	"net/http"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

// routeControl adds what control planes and CI jobs tell. An event is put under the
// id of what it is about; the same one again changes nothing, and the order does not
// matter.
func (a *API) routeControl(mux *recorder, v1 string) {
	mux.HandleFunc("GET "+v1+"/openapi.json", a.openAPI)
	mux.Handle("PUT "+v1+"/users/{name}/email", a.admin(a.setEmail))
	mux.Handle("GET "+v1+"/templates", a.admin(a.listTemplates))
	mux.Handle("GET "+v1+"/templates/{id}", a.admin(a.getTemplate))
	mux.Handle("PUT "+v1+"/templates/{id}", a.admin(a.putTemplate))
	mux.Handle("GET "+v1+"/templates/{id}/versions", a.admin(a.listVersions))
	mux.Handle("GET "+v1+"/templateversions/{id}", a.admin(a.getVersion))
	mux.Handle("PUT "+v1+"/templateversions/{id}", a.admin(a.putVersion))
	mux.Handle("GET "+v1+"/workspaces/{id}/builds", a.user(a.listBuilds))
	mux.Handle("GET "+v1+"/builds/{id}", a.admin(a.getBuild))
	mux.Handle("PUT "+v1+"/builds/{id}", a.admin(a.putBuild))
	mux.Handle("GET "+v1+"/jobs/{id}", a.admin(a.getJob))
	mux.Handle("PUT "+v1+"/jobs/{id}", a.admin(a.putJob))
	mux.Handle("POST "+v1+"/import", a.admin(a.importState))
}

// pathID returns the UUID in the path; false if it has answered.
func (a *API) pathID(w http.ResponseWriter, r *http.Request) (uuid.UUID, bool) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		a.fail(w, http.StatusBadRequest, wire.Error{Message: "The request is not valid.",
			Validations: []wire.Validation{{Field: "id", Detail: "want a UUID"}}})
	}
	return id, err == nil
}

// get answers with what find returns for the id in the path.
func get[T any](a *API, w http.ResponseWriter, r *http.Request, find func(uuid.UUID) (T, error)) {
	id, ok := a.pathID(w, r)
	if !ok {
		return
	}
	out, err := find(id)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	a.reply(w, http.StatusOK, out)
}

// put stores the event in the body and answers with what is known then. The id in
// the path is the event's; idOf points at it.
func put[T any](a *API, w http.ResponseWriter, r *http.Request, idOf func(*T) *uuid.UUID, store func(T) (T, error)) {
	id, ok := a.pathID(w, r)
	if !ok {
		return
	}
	var event T
	if !a.decode(w, r, &event) {
		return
	}
	if in := idOf(&event); *in != uuid.Nil && *in != id {
		a.fail(w, http.StatusBadRequest, wire.Error{Message: "The request is not valid.",
			Validations: []wire.Validation{{Field: "id", Detail: "it is not the one in the path"}}})
		return
	}
	*idOf(&event) = id
	out, err := store(event)
	switch {
	case errors.Is(err, catalog.ErrExists):
		a.fail(w, http.StatusConflict, wire.Error{Message: "The event contradicts what is known.", Detail: err.Error()})
	case err != nil:
		a.failErr(w, r, err)
	default:
		a.o.OnEvent()
		a.reply(w, http.StatusOK, out)
	}
}

func (a *API) listTemplates(w http.ResponseWriter, r *http.Request, _ catalog.User) {
	list, err := a.o.Catalog.Templates(r.Context())
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	a.reply(w, http.StatusOK, append([]catalog.TemplateInfo{}, list...))
}

func (a *API) getTemplate(w http.ResponseWriter, r *http.Request, _ catalog.User) {
	get(a, w, r, func(id uuid.UUID) (catalog.TemplateInfo, error) { return a.o.Catalog.Template(r.Context(), id) })
}

func (a *API) putTemplate(w http.ResponseWriter, r *http.Request, _ catalog.User) {
	put(a, w, r, func(t *catalog.TemplateInfo) *uuid.UUID { return &t.ID }, func(t catalog.TemplateInfo) (catalog.TemplateInfo, error) {
		out, renamed, err := a.o.Catalog.PutTemplate(r.Context(), t)
		if err != nil {
			return out, err
		}
		return out, a.allChanged(r, renamed)
	})
}

// allChanged tells everybody of workspaces that have another template or name.
func (a *API) allChanged(r *http.Request, ids []uuid.UUID) error {
	for _, id := range ids {
		ws, err := a.o.Catalog.Workspace(r.Context(), id)
		if errors.Is(err, catalog.ErrNotFound) {
			continue // it was deleted meanwhile
		}
		if err != nil {
			return err
		}
		a.changed(Change{Workspace: ws})
	}
	return nil
}

func (a *API) listVersions(w http.ResponseWriter, r *http.Request, _ catalog.User) {
	get(a, w, r, func(id uuid.UUID) ([]catalog.TemplateVersion, error) {
		list, err := a.o.Catalog.TemplateVersions(r.Context(), id)
		return append([]catalog.TemplateVersion{}, list...), err
	})
}

func (a *API) getVersion(w http.ResponseWriter, r *http.Request, _ catalog.User) {
	get(a, w, r, func(id uuid.UUID) (catalog.TemplateVersion, error) {
		return a.o.Catalog.TemplateVersion(r.Context(), id)
	})
}

func (a *API) putVersion(w http.ResponseWriter, r *http.Request, _ catalog.User) {
	put(a, w, r, func(v *catalog.TemplateVersion) *uuid.UUID { return &v.ID }, func(v catalog.TemplateVersion) (catalog.TemplateVersion, error) {
		return a.o.Catalog.PutTemplateVersion(r.Context(), v)
	})
}

func (a *API) listBuilds(w http.ResponseWriter, r *http.Request, who catalog.User) {
	ws, ok := a.find(w, r, who)
	if !ok {
		return
	}
	list, err := a.o.Catalog.Builds(r.Context(), ws.ID)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	a.reply(w, http.StatusOK, append([]catalog.Build{}, list...))
}

func (a *API) getBuild(w http.ResponseWriter, r *http.Request, _ catalog.User) {
	get(a, w, r, func(id uuid.UUID) (catalog.Build, error) { return a.o.Catalog.Build(r.Context(), id) })
}

func (a *API) putBuild(w http.ResponseWriter, r *http.Request, _ catalog.User) {
	put(a, w, r, func(b *catalog.Build) *uuid.UUID { return &b.ID }, func(b catalog.Build) (catalog.Build, error) {
		return a.o.Catalog.PutBuild(r.Context(), b)
	})
}

func (a *API) getJob(w http.ResponseWriter, r *http.Request, _ catalog.User) {
	get(a, w, r, func(id uuid.UUID) (catalog.Job, error) { return a.o.Catalog.Job(r.Context(), id) })
}

func (a *API) putJob(w http.ResponseWriter, r *http.Request, _ catalog.User) {
	put(a, w, r, func(j *catalog.Job) *uuid.UUID { return &j.ID }, func(j catalog.Job) (catalog.Job, error) {
		return a.o.Catalog.PutJob(r.Context(), j)
	})
}
