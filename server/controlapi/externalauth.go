package controlapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/gitauth"
	"github.com/worktally/worktally/wire"
)

// loginCookie holds the nonce of a login, so that it ends in the browser in which
// it began.
const loginCookie = "worktally_external_auth"

// ExternalAuth is a git provider as one person sees it.
type ExternalAuth struct {
	ID          string `json:"id"`
	Type        string `json:"type"`
	DisplayName string `json:"display_name"`
	// URL is where the account is linked, in a browser.
	URL string `json:"url"`
	// Device says whether an account can be linked from another machine.
	Device   bool      `json:"device"`
	Linked   bool      `json:"linked"`
	LinkedAt time.Time `json:"linked_at,omitzero"`
}

// SSHKey is the public half of a person's key.
type SSHKey struct {
	PublicKey string    `json:"public_key"`
	CreatedAt time.Time `json:"created_at"`
}

// routeGit adds what people need for git in their workspaces.
func (a *API) routeGit(mux *recorder) {
	if a.o.Git == nil {
		return
	}
	const v1 = "/api/worktally/v1"
	mux.Handle("GET /external-auth/{id}", a.browser(a.beginLogin))
	mux.Handle("POST /external-auth/{id}", a.browser(a.beginLogin))
	mux.HandleFunc("GET /external-auth/{id}/callback", a.finishLogin)
	mux.Handle("GET "+v1+"/external-auth", a.user(a.listExternalAuth))
	mux.Handle("DELETE "+v1+"/external-auth/{id}", a.user(a.unlink))
	mux.Handle("POST "+v1+"/external-auth/{id}/device", a.user(a.beginDevice))
	mux.Handle("POST "+v1+"/external-auth/{id}/device/{code}", a.user(a.finishDevice))
	mux.Handle("GET "+v1+"/users/me/gitsshkey", a.user(a.sshKey))
	mux.Handle("PUT "+v1+"/users/me/gitsshkey", a.user(a.renewSSHKey))
}

// browser lets in who has a token, and asks others for it on a page; the form's
// field stands for the header then.
func (a *API) browser(next handler) http.Handler {
	withToken := a.user(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if r.Method == http.MethodPost && tokenOf(r) == "" {
			r.Header.Set(wire.TokenHeader, strings.TrimSpace(r.PostFormValue("token")))
		}
		if tokenOf(r) == "" {
			if p, ok := a.provider(w, r); ok {
				a.page(w, http.StatusUnauthorized, p, linkPage{Ask: true})
			}
			return
		}
		withToken.ServeHTTP(w, r)
	})
}

// provider returns the provider in the path; false if it has answered.
func (a *API) provider(w http.ResponseWriter, r *http.Request) (*gitauth.Provider, bool) {
	p := a.o.Git.ByID(r.PathValue("id"))
	if p == nil {
		a.fail(w, http.StatusNotFound, wire.Error{Message: "There is no such git provider."})
	}
	return p, p != nil
}

func (a *API) beginLogin(w http.ResponseWriter, r *http.Request, who catalog.User) {
	p, ok := a.provider(w, r)
	if !ok {
		return
	}
	address, nonce, err := a.o.Git.Begin(who.ID, p)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	a.setLoginCookie(w, p, nonce, int(gitauth.LoginTime.Seconds()))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, address, http.StatusSeeOther)
}

// setLoginCookie keeps the nonce in the browser for a while; a negative age
// removes it. It comes back from other sites only when they send the browser here.
func (a *API) setLoginCookie(w http.ResponseWriter, p *gitauth.Provider, nonce string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: loginCookie, Value: nonce, Path: gitauth.Path(p.ID), MaxAge: age,
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: strings.HasPrefix(a.o.Git.LinkURL(p), "https:"),
	})
}

// finishLogin is where the provider sends the browser. It needs no token: who logs
// in stands in the state, which only this server could make.
func (a *API) finishLogin(w http.ResponseWriter, r *http.Request) {
	p, ok := a.provider(w, r)
	if !ok {
		return
	}
	nonce := ""
	if c, err := r.Cookie(loginCookie); err == nil {
		nonce = c.Value
	}
	a.setLoginCookie(w, p, "", -1)
	query := r.URL.Query()
	err := gitauth.ErrRefused
	if !query.Has("error") {
		err = a.o.Git.Finish(r.Context(), p, query.Get("state"), nonce, query.Get("code"))
	}
	status, problem := a.loginProblem(err)
	a.page(w, status, p, linkPage{Problem: problem})
}

// loginProblem says what an error means to a person.
func (a *API) loginProblem(err error) (status int, problem string) {
	switch {
	case err == nil:
		return http.StatusOK, ""
	case errors.Is(err, gitauth.ErrRefused):
		return http.StatusForbidden, "The provider says that the login was refused."
	case errors.Is(err, gitauth.ErrState):
		return http.StatusBadRequest, "The login was not begun in this browser, or took too long."
	case errors.Is(err, gitauth.ErrNotLinked):
		return http.StatusAccepted, "The login is not complete yet."
	case errors.Is(err, gitauth.ErrProvider):
		a.o.Log.Warn("log in at a git provider", "err", err)
		return http.StatusBadGateway, "The provider could not be used. Try again; the server's log says more."
	}
	a.o.Log.Error("log in at a git provider", "err", err)
	return http.StatusInternalServerError, "Something went wrong. The server's log says more."
}

func (a *API) listExternalAuth(w http.ResponseWriter, r *http.Request, who catalog.User) {
	linked, err := a.o.Git.Linked(r.Context(), who.ID)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	list := []ExternalAuth{}
	for _, p := range a.o.Git.Providers() {
		at, ok := linked[p.ID]
		list = append(list, ExternalAuth{ID: p.ID, Type: p.Type, DisplayName: p.DisplayName, URL: a.o.Git.LinkURL(p), Device: p.DeviceURL != "", Linked: ok, LinkedAt: at})
	}
	a.reply(w, http.StatusOK, list)
}

func (a *API) unlink(w http.ResponseWriter, r *http.Request, who catalog.User) {
	p, ok := a.provider(w, r)
	if !ok {
		return
	}
	if err := a.o.Git.Unlink(r.Context(), who.ID, p); err != nil {
		a.failErr(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *API) beginDevice(w http.ResponseWriter, r *http.Request, _ catalog.User) {
	p, ok := a.provider(w, r)
	if !ok {
		return
	}
	d, err := a.o.Git.BeginDevice(r.Context(), p)
	if err != nil {
		status, problem := a.loginProblem(err)
		a.fail(w, status, wire.Error{Message: problem})
		return
	}
	a.reply(w, http.StatusOK, d)
}

// finishDevice answers 204 when the account is linked and 202 until then.
func (a *API) finishDevice(w http.ResponseWriter, r *http.Request, who catalog.User) {
	p, ok := a.provider(w, r)
	if !ok {
		return
	}
	status, problem := a.loginProblem(a.o.Git.FinishDevice(r.Context(), who.ID, p, r.PathValue("code")))
	if status == http.StatusOK {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	a.fail(w, status, wire.Error{Message: problem})
}

func (a *API) sshKey(w http.ResponseWriter, r *http.Request, who catalog.User) {
	a.replyKey(w, r, who, a.o.Git.SSHKey)
}

// renewSSHKey replaces the key: the old one has leaked, or somebody wants a fresh
// one.
func (a *API) renewSSHKey(w http.ResponseWriter, r *http.Request, who catalog.User) {
	a.replyKey(w, r, who, a.o.Git.RenewSSHKey)
}

func (a *API) replyKey(w http.ResponseWriter, r *http.Request, who catalog.User, get func(context.Context, uuid.UUID) (gitauth.SSHKey, error)) {
	key, err := get(r.Context(), who.ID)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	a.reply(w, http.StatusOK, SSHKey{key.Public, key.CreatedAt})
}

// origin is the scheme and host of an address.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
