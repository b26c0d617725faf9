package agentapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

const (
	// maxHTTPBody bounds a body, in bytes: more than an agent's log has room for.
	maxHTTPBody = 2 << 20
	// externalSource is who writes when a producer says nothing, and its name and
	// icon (contract agent-api.md section 3.2).
	externalSource = "3b579bf4-1ed8-4b99-87a8-e9a1e3410410"
	externalName   = "External"
	externalIcon   = "/emojis/1f310.png"
)

// patchLogs is the body of PATCH logs.
type patchLogs struct {
	LogSourceID uuid.UUID `json:"log_source_id"`
	Logs        []struct {
		Output string `json:"output"`
		Level  string `json:"level"`
	} `json:"logs"`
}

// postSource is the body of POST log-source.
type postSource struct {
	ID          uuid.UUID `json:"id"`
	DisplayName string    `json:"display_name"`
	Icon        string    `json:"icon"`
}

// addedSource is its answer.
type addedSource struct {
	AgentID     uuid.UUID `json:"workspace_agent_id"`
	ID          uuid.UUID `json:"id"`
	CreatedAt   time.Time `json:"created_at"`
	DisplayName string    `json:"display_name"`
	Icon        string    `json:"icon"`
}

// body decodes a body; false if it has answered. Fields that are not known are
// other versions'.
func body(w http.ResponseWriter, r *http.Request, out any) bool {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHTTPBody))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		wire.WriteError(w, http.StatusRequestEntityTooLarge, wire.Error{Message: "The request is larger than 2 MiB."})
		return false
	}
	if err == nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		wire.WriteError(w, http.StatusBadRequest, wire.Error{Message: "The request is not valid.", Detail: err.Error()})
	}
	return err == nil
}

// level reads a level; none is info.
func level(text string) (agentpb.Log_Level, bool) {
	if text == "" {
		return agentpb.Log_INFO, true
	}
	l := agentpb.Log_Level(agentpb.Log_Level_value[strings.ToUpper(text)])
	return l, l != agentpb.Log_LEVEL_UNSPECIFIED
}

// serveLogs stores lines of the log, as agents did before there was a call for it.
func (s *Service) serveLogs(w http.ResponseWriter, r *http.Request) {
	id, _, ok := s.authenticate(w, r)
	if !ok {
		return
	}
	var req patchLogs
	if !body(w, r, &req) {
		return
	}
	if len(req.Logs) == 0 {
		wire.WriteError(w, http.StatusBadRequest, wire.Error{Message: "There are no logs."})
		return
	}
	lines := make([]catalog.LogLine, len(req.Logs))
	for i, line := range req.Logs {
		l, known := level(line.Level)
		if !known {
			wire.WriteError(w, http.StatusBadRequest, wire.Error{Message: "A log level is not valid.",
				Validations: []wire.Validation{{Field: "level", Detail: "want trace, debug, info, warn or error"}}})
			return
		}
		lines[i] = catalog.LogLine{SourceID: req.LogSourceID, Level: l, Output: line.Output}
	}
	if req.LogSourceID == uuid.Nil {
		source := catalog.LogSource{ID: uuid.MustParse(externalSource), DisplayName: externalName, Icon: externalIcon}
		if _, err := s.o.Catalog.AddLogSource(r.Context(), id.Agent.ID, source); err != nil {
			s.failLogs(w, r, err)
			return
		}
		for i := range lines {
			lines[i].SourceID = source.ID
		}
	}
	overflowed, err := s.o.Catalog.AppendLogs(r.Context(), id.Agent.ID, lines)
	if err != nil {
		s.failLogs(w, r, err)
		return
	}
	if overflowed {
		wire.WriteError(w, http.StatusRequestEntityTooLarge, wire.Error{Message: "The agent's log is full.", Detail: "There is room again when the agent starts anew."})
		return
	}
	w.WriteHeader(http.StatusOK)
}

// serveLogSource adds a source of lines.
func (s *Service) serveLogSource(w http.ResponseWriter, r *http.Request) {
	id, _, ok := s.authenticate(w, r)
	if !ok {
		return
	}
	var req postSource
	if !body(w, r, &req) {
		return
	}
	if req.ID == uuid.Nil {
		wire.WriteError(w, http.StatusBadRequest, wire.Error{Message: "The log source has no id."})
		return
	}
	added, err := s.o.Catalog.AddLogSource(r.Context(), id.Agent.ID, catalog.LogSource{ID: req.ID, DisplayName: req.DisplayName, Icon: req.Icon})
	if err != nil {
		s.failLogs(w, r, err)
		return
	}
	wire.WriteJSON(w, http.StatusCreated, addedSource{id.Agent.ID, added.ID, added.CreatedAt, added.DisplayName, added.Icon})
}

func (s *Service) failLogs(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, catalog.ErrInUse):
		wire.WriteError(w, http.StatusConflict, wire.Error{Message: "There is no room for one more log source."})
	case errors.Is(err, catalog.ErrNotFound):
		wire.WriteError(w, http.StatusNotFound, wire.Error{Message: "The agent is gone."})
	case r.Context().Err() != nil:
		wire.WriteError(w, 499, wire.Error{Message: "The caller went away."}) // for the record only: nobody reads it
	default:
		s.log.Error("store what an agent logs", "err", err)
		wire.WriteError(w, http.StatusInternalServerError, wire.Error{Message: "Internal server error.", Detail: "The server's log says more."})
	}
}
