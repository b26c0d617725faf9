package controlapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

// User is a user in answers.
type User struct {
	ID        uuid.UUID `json:"id"`
	Username  string    `json:"username"`
	Admin     bool      `json:"admin"`
	CreatedAt time.Time `json:"created_at"`
	// Token is set in the answer that creates the user, and nowhere else.
	Token string `json:"token,omitempty"`
}

// NewUser is the request that creates a user.
type NewUser struct {
	Username string `json:"username"`
	Admin    bool   `json:"admin"`
}

// Token is the answer that holds a new token.
type Token struct {
	Token string `json:"token"`
}

func asUser(u catalog.User) User {
	return User{ID: u.ID, Username: u.Username, Admin: u.Admin, CreatedAt: u.CreatedAt}
}

func (a *API) me(w http.ResponseWriter, _ *http.Request, who catalog.User) {
	a.reply(w, http.StatusOK, asUser(who))
}

func (a *API) listUsers(w http.ResponseWriter, r *http.Request, _ catalog.User) {
	users, err := a.o.Catalog.Users(r.Context())
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	list := []User{}
	for _, u := range users {
		list = append(list, asUser(u))
	}
	a.reply(w, http.StatusOK, list)
}

func (a *API) createUser(w http.ResponseWriter, r *http.Request, _ catalog.User) {
	text, ok := a.body(w, r)
	if !ok {
		return
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var req NewUser
	err := dec.Decode(&req)
	if err == nil && dec.Decode(new(any)) != io.EOF {
		err = errors.New("something follows the JSON value")
	}
	if err != nil {
		a.fail(w, http.StatusBadRequest, wire.Error{Message: "The request is not valid.", Detail: err.Error()})
		return
	}
	if err := a.o.MayAddUser(); err != nil {
		a.fail(w, http.StatusForbidden, wire.Error{Message: "There may not be one more user.", Detail: err.Error()})
		return
	}
	u, token, err := a.o.Catalog.CreateUser(r.Context(), req.Username, req.Admin)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	out := asUser(u)
	out.Token = token
	a.reply(w, http.StatusCreated, out)
}

func (a *API) deleteUser(w http.ResponseWriter, r *http.Request, who catalog.User) {
	name := named(r, who)
	if err := a.o.Catalog.DeleteUser(r.Context(), name); err != nil {
		a.failErr(w, r, err)
		return
	}
	a.sessions.revokeUser(name)
	w.WriteHeader(http.StatusNoContent)
}

// rotateUserToken is for oneself; for others one has to be an administrator.
func (a *API) rotateUserToken(w http.ResponseWriter, r *http.Request, who catalog.User) {
	name := named(r, who)
	if name != who.Username && !who.Admin {
		a.fail(w, http.StatusForbidden, wire.Error{Message: "Only an administrator may do this."})
		return
	}
	token, err := a.o.Catalog.RotateUserToken(r.Context(), name)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	a.sessions.revokeUser(name)
	a.reply(w, http.StatusOK, Token{token})
}

// named returns the username in the path; me is whoever asks.
func named(r *http.Request, who catalog.User) string {
	name := r.PathValue("name")
	if name == "me" {
		return who.Username
	}
	return name
}
