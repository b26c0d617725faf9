package controlapi

import (
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

// clientUser is a person as clients know one. There are neither names beside the
// username nor organizations here.
type clientUser struct {
	ID              uuid.UUID    `json:"id"`
	Username        string       `json:"username"`
	Name            string       `json:"name"`
	Email           string       `json:"email"`
	AvatarURL       string       `json:"avatar_url"`
	CreatedAt       time.Time    `json:"created_at"`
	UpdatedAt       time.Time    `json:"updated_at"`
	Status          string       `json:"status"`
	LoginType       string       `json:"login_type"`
	OrganizationIDs []uuid.UUID  `json:"organization_ids"`
	Roles           []clientRole `json:"roles"`
}

type clientRole struct {
	Name        string `json:"name"`
	DisplayName string `json:"display_name"`
}

func asClientUser(u catalog.User) clientUser {
	out := clientUser{
		ID: u.ID, Username: u.Username, Email: u.Email, CreatedAt: u.CreatedAt, UpdatedAt: u.CreatedAt, Status: "active", LoginType: "token",
		OrganizationIDs: []uuid.UUID{}, Roles: []clientRole{},
	}
	if u.Admin {
		out.Roles = append(out.Roles, clientRole{Name: "owner", DisplayName: "Owner"})
	}
	return out
}

// firstUser says that the server is set up: it made its first user itself.
func (a *API) firstUser(w http.ResponseWriter, _ *http.Request) {
	a.reply(w, http.StatusOK, wire.Error{Message: "The first user exists."})
}

// findUser returns the user in the path, by name, id or me. Everybody but oneself
// is found by administrators only; false if it has answered.
func (a *API) findUser(w http.ResponseWriter, r *http.Request, who catalog.User) (catalog.User, bool) {
	name := r.PathValue("name")
	if name == "me" || name == who.Username || name == who.ID.String() {
		return who, true
	}
	err := fmt.Errorf("user %q: %w", name, catalog.ErrNotFound)
	var u catalog.User
	if who.Admin {
		u, err = a.o.Catalog.UserByName(r.Context(), name)
	}
	if err != nil {
		a.failErr(w, r, err)
		return catalog.User{}, false
	}
	return u, true
}

func (a *API) clientUser(w http.ResponseWriter, r *http.Request, who catalog.User) {
	if u, ok := a.findUser(w, r, who); ok {
		a.reply(w, http.StatusOK, asClientUser(u))
	}
}

// clientKey answers a client that logs in and wants a key to keep. A person has
// one token, and a new one would make that of every other machine invalid; so it
// is the token that the client came with.
func (a *API) clientKey(w http.ResponseWriter, r *http.Request, who catalog.User) {
	u, ok := a.findUser(w, r, who)
	switch {
	case !ok:
	case u.ID != who.ID:
		a.fail(w, http.StatusForbidden, wire.Error{Message: "Keys are made for oneself only."})
	default:
		a.reply(w, http.StatusCreated, map[string]string{"key": tokenOf(r)})
	}
}
