package controlapi

import (
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/audit"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

// User is a user in answers.
type User struct {
	ID        uuid.UUID `json:"id"`
	Username  string    `json:"username"`
	Email     string    `json:"email,omitempty"`
	Admin     bool      `json:"admin"`
	CreatedAt time.Time `json:"created_at"`
	// Token is set in the answer that creates the user, and nowhere else.
	Token string `json:"token,omitempty"`
}

// NewUser is the request that creates a user.
type NewUser struct {
	Username string `json:"username"`
	Email    string `json:"email,omitempty"`
	Admin    bool   `json:"admin,omitempty"`
}

// Email is the request that changes a user's e-mail address.
type Email struct {
	// Email may be empty: none.
	Email string `json:"email"`
}

// Token is the answer that holds a new token.
type Token struct {
	Token string `json:"token"`
	// OldEnds is when the token that it replaces ends; nil if it has ended.
	OldEnds *time.Time `json:"old_ends,omitempty"`
}

func asUser(u catalog.User) User {
	return User{ID: u.ID, Username: u.Username, Email: u.Email, Admin: u.Admin, CreatedAt: u.CreatedAt}
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

func (a *API) createUser(w http.ResponseWriter, r *http.Request, who catalog.User) {
	var req NewUser
	if !a.decode(w, r, &req) {
		return
	}
	if err := a.o.MayAddUser(); err != nil {
		a.fail(w, http.StatusForbidden, wire.Error{Message: "There may not be one more user.", Detail: err.Error()})
		return
	}
	u, token, err := a.o.Catalog.CreateUserWithEmail(r.Context(), req.Username, req.Email, req.Admin)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	a.record(r, who, audit.Event{Name: audit.UserCreated, Target: u.Username})
	out := asUser(u)
	out.Token = token
	a.reply(w, http.StatusCreated, out)
}

// setEmail changes the address that series carry, so only administrators may.
func (a *API) setEmail(w http.ResponseWriter, r *http.Request, who catalog.User) {
	var req Email
	if !a.decode(w, r, &req) {
		return
	}
	if err := a.o.Catalog.SetUserEmail(r.Context(), named(r, who), req.Email); err != nil {
		a.failErr(w, r, err)
		return
	}
	a.o.OnEvent()
	w.WriteHeader(http.StatusNoContent)
}

func (a *API) deleteUser(w http.ResponseWriter, r *http.Request, who catalog.User) {
	name := named(r, who)
	if err := a.o.Catalog.DeleteUser(r.Context(), name); err != nil {
		a.failErr(w, r, err)
		return
	}
	a.sessions.revokeUser(name)
	a.o.OnToken(catalog.TokenNotice{Username: name})
	a.record(r, who, audit.Event{Name: audit.UserDeleted, Target: name})
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
	a.o.OnToken(catalog.TokenNotice{Username: name})
	a.record(r, who, audit.Event{Name: audit.TokenRotated, Target: name})
	a.reply(w, http.StatusOK, Token{Token: token})
}

// named returns the username in the path; me is whoever asks.
func named(r *http.Request, who catalog.User) string {
	name := r.PathValue("name")
	if name == "me" {
		return who.Username
	}
	return name
}
