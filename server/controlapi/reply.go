package controlapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

func (a *API) reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Cache-Control", "no-store") // answers may hold tokens
	wire.WriteJSON(w, status, body)
}

func (a *API) fail(w http.ResponseWriter, status int, p wire.Error) { a.reply(w, status, p) }

// failErr answers with what an error of the catalog means. Errors that are not
// the caller's are logged, not shown.
func (a *API) failErr(w http.ResponseWriter, r *http.Request, err error) {
	p := wire.Error{Detail: err.Error()}
	for _, e := range catalog.SpecErrors(err) {
		p.Validations = append(p.Validations, wire.Validation{Field: e.Field, Detail: e.Reason, Line: e.Line})
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
	case errors.Is(err, catalog.ErrForgotten):
		p.Message = "It is too old to be counted."
		a.fail(w, http.StatusGone, p)
	case r.Context().Err() != nil:
		a.o.Log.Debug("request given up by the caller", "err", err)
		a.fail(w, 499, wire.Error{Message: "The caller went away."}) // for the record only: nobody reads it
	default:
		a.o.Log.Error("request failed", "err", err, "method", r.Method, "route", r.Pattern)
		a.fail(w, http.StatusInternalServerError, wire.Error{Message: "Internal server error.", Detail: "The server's log says more."})
	}
}

// decode reads a body of one JSON value without unknown fields; false if it has
// answered.
func (a *API) decode(w http.ResponseWriter, r *http.Request, out any) bool {
	text, ok := a.body(w, r)
	if !ok {
		return false
	}
	if err := unmarshal(text, out); err != nil {
		a.fail(w, http.StatusBadRequest, wire.Error{Message: "The request is not valid.", Detail: err.Error()})
		return false
	}
	return true
}

// unmarshal decodes exactly one JSON value without unknown fields.
func unmarshal(text []byte, out any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(out); err != nil {
		return err
	}
	if dec.Decode(new(any)) != io.EOF {
		return errors.New("something follows the JSON value")
	}
	return nil
}

// body reads the whole body within its bound; false if it has answered.
func (a *API) body(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		a.fail(w, http.StatusRequestEntityTooLarge, wire.Error{Message: "The request is larger than 1 MiB."})
		return nil, false
	}
	if err != nil {
		a.fail(w, http.StatusBadRequest, wire.Error{Message: "The request could not be read.", Detail: err.Error()})
		return nil, false
	}
	return text, true
}
