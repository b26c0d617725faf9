package controlapi

import (
	"errors"
	"net/http"
	"strings"

	"github.com/worktally/worktally/server/audit"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

// handler is a handler that knows who asks.
type handler func(w http.ResponseWriter, r *http.Request, who catalog.User)

// tokenOf returns the token of a request, "" if it has none. Unlike that of an
// agent it never stands in a URL, which others get to see.
func tokenOf(r *http.Request) string {
	if token := r.Header.Get(wire.TokenHeader); token != "" {
		return token
	}
	if c, err := r.Cookie(wire.TokenCookie); err == nil && c.Value != "" {
		return c.Value
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return ""
}

// user lets in whoever has a valid token.
func (a *API) user(next handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := tokenOf(r)
		if token == "" {
			a.refused(r, refusedMissing)
			a.fail(w, http.StatusUnauthorized, wire.Error{Message: "A token is needed.",
				Detail: "Send it as header " + wire.TokenHeader + ", cookie " + wire.TokenCookie + " or Authorization: Bearer."})
			return
		}
		if !a.limiter.Allow(r.RemoteAddr, token) {
			a.refused(r, refusedLimited)
			w.Header().Set("Retry-After", "10")
			a.fail(w, http.StatusTooManyRequests, wire.Error{Message: "Too many invalid tokens came from this address.", Detail: "Try again in 10 seconds."})
			return
		}
		who, err := a.o.Catalog.UserByToken(r.Context(), token)
		if errors.Is(err, catalog.ErrNotFound) {
			a.limiter.Failed(r.RemoteAddr, token)
			a.refused(r, refusedInvalid)
			a.fail(w, http.StatusUnauthorized, wire.Error{Message: "The token is not valid."})
			return
		}
		if err != nil {
			a.failErr(w, r, err)
			return
		}
		a.limiter.Succeeded(token)
		a.o.Seen(who.ID)
		next(w, r, who)
	})
}

// refused notes who was not let in, and why.
func (a *API) refused(r *http.Request, reason string) {
	a.metrics.refused.WithLabelValues(reason).Inc()
	a.o.Audit.Record(audit.Event{Name: audit.LoginFailed, Kind: "person", Address: r.RemoteAddr, Reason: reason})
}

// record notes what a person did.
func (a *API) record(r *http.Request, who catalog.User, e audit.Event) {
	e.User, e.Address = who.Username, r.RemoteAddr
	a.o.Audit.Record(e)
}

// recordOn is record for something done to a workspace.
func (a *API) recordOn(r *http.Request, who catalog.User, name string, ws catalog.Workspace) {
	a.record(r, who, audit.Event{Name: name, Owner: ws.OwnerName, Workspace: ws.Name})
}

// admin lets in administrators.
func (a *API) admin(next handler) http.Handler {
	return a.user(func(w http.ResponseWriter, r *http.Request, who catalog.User) {
		if !who.Admin {
			a.fail(w, http.StatusForbidden, wire.Error{Message: "Only an administrator may do this."})
			return
		}
		next(w, r, who)
	})
}
