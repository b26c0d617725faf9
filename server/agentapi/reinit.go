package agentapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/worktally/worktally/wire"
)

// reinitPing is how often an agent that waits is told that nothing happened.
const reinitPing = 15 * time.Second

// serveReinit answers that this server never asks an agent to start over. A
// newest agent stops asking; one of 2025 would ask for ever, so it gets a stream
// on which nothing happens.
func (s *Service) serveReinit(w http.ResponseWriter, r *http.Request) {
	id, token, ok := s.authenticate(w, r)
	if !ok {
		return
	}
	if strings.EqualFold(r.URL.Query().Get("wait"), "true") {
		wire.WriteError(w, http.StatusConflict, wire.Error{Message: "The workspace is not a prebuilt one."})
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	open, ok := s.open(id.Agent.ID, waiting, token, cancel)
	if !ok {
		wire.WriteError(w, http.StatusServiceUnavailable, wire.Error{Message: "The server is stopping."})
		return
	}
	defer s.sessions.remove(open)
	if _, err := s.identify(r.Context(), open); err != nil {
		wire.WriteError(w, http.StatusServiceUnavailable, wire.Error{Message: "The request was ended.", Detail: errDropped.Error()})
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	control := http.NewResponseController(w)
	tick := time.NewTicker(reinitPing)
	defer tick.Stop()
	for {
		// A writer without deadlines has nothing to bound.
		_ = control.SetWriteDeadline(time.Now().Add(reinitPing))
		if _, err := w.Write([]byte("event: ping\n\n")); err != nil || control.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
