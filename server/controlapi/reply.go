package controlapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/worktally/worktally/server/catalog"
)

// Problem is the body of every error.
type Problem struct {
	Message     string       `json:"message"`
	Detail      string       `json:"detail,omitempty"`
	Validations []Validation `json:"validations,omitempty"`
}

// Validation is one thing that is wrong with what was sent. Line is set for
// documents.
type Validation struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
	Line   int    `json:"line,omitempty"`
}

func (a *api) reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // answers may hold tokens
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		a.o.Log.Debug("answer not written", "err", err)
	}
}

func (a *api) fail(w http.ResponseWriter, status int, p Problem) { a.reply(w, status, p) }

// failErr answers with what an error of the catalog means. Errors that are not
// the caller's are logged, not shown.
func (a *api) failErr(w http.ResponseWriter, r *http.Request, err error) {
	p := Problem{Detail: err.Error()}
	for _, e := range catalog.SpecErrors(err) {
		p.Validations = append(p.Validations, Validation{Field: e.Field, Detail: e.Reason, Line: e.Line})
	}
	switch {
	case len(p.Validations) > 0:
		p.Message, p.Detail = "The workspace document is not valid.", ""
		a.fail(w, http.StatusBadRequest, p)
	case errors.Is(err, catalog.ErrNotFound):
		p.Message = "Resource not found."
		a.fail(w, http.StatusNotFound, p)
	case errors.Is(err, catalog.ErrExists):
		p.Message = "The name is taken."
		a.fail(w, http.StatusConflict, p)
	case errors.Is(err, catalog.ErrInUse):
		p.Message = "It cannot be deleted now."
		a.fail(w, http.StatusConflict, p)
	case errors.Is(err, catalog.ErrForbidden):
		p.Message = "You are not allowed to do this."
		a.fail(w, http.StatusForbidden, p)
	case errors.Is(err, catalog.ErrInvalid):
		p.Message = "The request is not valid."
		a.fail(w, http.StatusBadRequest, p)
	case r.Context().Err() != nil:
		a.o.Log.Debug("request given up by the caller", "err", err)
		a.fail(w, 499, Problem{Message: "The caller went away."}) // for the record only: nobody reads it
	default:
		a.o.Log.Error("request failed", "err", err, "method", r.Method, "route", r.Pattern)
		a.fail(w, http.StatusInternalServerError, Problem{Message: "Internal server error.", Detail: "The server's log says more."})
	}
}

// body reads the whole body within its bound; false if it has answered.
func (a *api) body(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		a.fail(w, http.StatusRequestEntityTooLarge, Problem{Message: "The request is larger than 1 MiB."})
		return nil, false
	}
	if err != nil {
		a.fail(w, http.StatusBadRequest, Problem{Message: "The request could not be read.", Detail: err.Error()})
		return nil, false
	}
	return text, true
}
