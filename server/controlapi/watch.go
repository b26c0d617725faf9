package controlapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/worktally/worktally/server/catalog"
)

const (
	// watchPing is how often a client that watches hears something.
	watchPing = 15 * time.Second
	// watchRefresh is how often it is looked whether the agents' state is another:
	// they change it at other servers of the deployment too.
	watchRefresh = 5 * time.Second
	// watchWrite bounds how long a client may take to read an event.
	watchWrite = 15 * time.Second
)

// watch sends a workspace, and again whenever it has changed, as server-sent
// events (contract client-api.md section 4.3). Only complete workspaces are sent:
// one without its build would end a client's session.
func (a *API) watch(w http.ResponseWriter, r *http.Request, who catalog.User) {
	ws, ok := a.find(w, r, who)
	if !ok {
		return
	}
	s := &session{user: who}
	ctx, done, ok := a.begin(w, r, s, func() error {
		_, err := a.o.Catalog.UserByToken(r.Context(), tokenOf(r))
		return err
	})
	if !ok {
		return
	}
	defer done()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("X-Accel-Buffering", "no")
	e := &events{w: w, control: http.NewResponseController(w)}
	if err := a.sendChanges(ctx, s, ws, e); err != nil && ctx.Err() == nil {
		a.o.Log.Debug("a watch ended", "workspace", ws.Name, "err", err)
	}
}

// sendChanges sends until the session ends, or the workspace.
func (a *API) sendChanges(ctx context.Context, s *session, ws catalog.Workspace, e *events) error {
	ping, refresh := time.NewTicker(watchPing), time.NewTicker(watchRefresh)
	defer ping.Stop()
	defer refresh.Stop()
	var sent *clientWorkspace
	for {
		if now := a.asClientWorkspace(ws); sent == nil || !sameToWatchers(*sent, now) {
			if err := e.data(now); err != nil {
				return err
			}
			sent = &now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ping.C:
			if err := e.send("event: ping\n\n"); err != nil {
				return err
			}
			continue
		case <-refresh.C:
		case <-s.changed:
		}
		fresh, err := a.o.Catalog.Workspace(ctx, ws.ID)
		switch {
		case errors.Is(err, catalog.ErrNotFound):
			// A session goes on whatever a build is called, except when it has stopped.
			gone := a.asClientWorkspace(ws)
			gone.LatestBuild.Transition, gone.LatestBuild.Status = transitionStop, statusStopped
			return e.data(gone)
		case err == nil:
			ws = fresh
		case ctx.Err() == nil: // what is known stays until more is
			a.o.Log.Warn("watch a workspace", "workspace", ws.Name, "err", err)
		}
	}
}

// sameToWatchers leaves out when agents were last heard of, which always changes.
func sameToWatchers(a, b clientWorkspace) bool {
	for _, w := range []*clientWorkspace{&a, &b} {
		resource := w.LatestBuild.Resources[0]
		resource.Agents = append([]clientAgent{}, resource.Agents...)
		for i := range resource.Agents {
			resource.Agents[i].LastConnectedAt = time.Time{}
		}
		w.LatestBuild.Resources = []clientResource{resource}
	}
	return reflect.DeepEqual(a, b)
}

// events writes server-sent events. Every one begins with its kind: a client
// stops reading at one that does not.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (e *events) data(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		panic("BUG: controlapi: encode event: " + err.Error())
	}
	return e.send("event: data\ndata: " + string(text) + "\n\n")
}

func (e *events) send(text string) error {
	// A writer without deadlines has nothing to bound.
	_ = e.control.SetWriteDeadline(time.Now().Add(watchWrite))
	if _, err := e.w.Write([]byte(text)); err != nil {
		return err
	}
	return e.control.Flush()
}
