package controlapi

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

// maxQuery bounds a search, in bytes.
const maxQuery = 2000

// search is what somebody looks for among workspaces. Empty means everything.
type search struct{ owner, name string }

// parseSearch reads a query of terms between spaces: owner:X, name:X, where X may
// be quoted, and words alone, which are a name or owner/name.
func parseSearch(q string) (s search, err error) {
	if len(q) > maxQuery {
		return search{}, fmt.Errorf("the query is longer than %d bytes", maxQuery)
	}
	for q = strings.TrimSpace(q); q != ""; q = strings.TrimSpace(q) {
		var term string
		if term, q, err = cutTerm(q); err != nil {
			return search{}, err
		}
		key, value, named := strings.Cut(term, ":")
		switch {
		case !named:
			if owner, name, both := strings.Cut(term, "/"); both {
				s.owner, s.name = owner, name
				continue
			}
			s.name = term
		case key == "owner":
			s.owner = value
		case key == "name":
			s.name = value
		default:
			return search{}, fmt.Errorf("%q is not a term: want owner:, name: or a name", key)
		}
	}
	return s, nil
}

// cutTerm takes the first term off a query and takes away its quotes.
func cutTerm(q string) (term, rest string, err error) {
	quoted := false
	for i := range len(q) {
		switch {
		case q[i] == '"':
			quoted = !quoted
		case q[i] == ' ' && !quoted:
			return strings.ReplaceAll(q[:i], `"`, ""), q[i:], nil
		}
	}
	if quoted {
		return "", "", fmt.Errorf("a quote in %q has no end", q)
	}
	return strings.ReplaceAll(q, `"`, ""), "", nil
}

// clientWorkspaces lists the workspaces that somebody may use and looks for.
// Others' are not there, like those that do not exist.
func (a *API) clientWorkspaces(w http.ResponseWriter, r *http.Request, who catalog.User) {
	query := r.URL.Query()
	found, err := parseSearch(query.Get("q"))
	if err != nil {
		a.badQuery(w, "q", err)
		return
	}
	offset, errOffset := number(query.Get("offset"))
	limit, errLimit := number(query.Get("limit"))
	if errOffset != nil || errLimit != nil {
		a.badQuery(w, "limit", fmt.Errorf("limit and offset have to be numbers"))
		return
	}
	owner := who.ID
	if who.Admin {
		owner = uuid.Nil
	}
	if found.owner == "me" {
		owner, found.owner = who.ID, who.Username
	}
	list, err := a.o.Catalog.Workspaces(r.Context(), owner)
	if err != nil {
		a.failErr(w, r, err)
		return
	}
	list = slices.DeleteFunc(list, func(ws catalog.Workspace) bool {
		return found.owner != "" && !strings.EqualFold(ws.OwnerName, found.owner) ||
			!strings.Contains(strings.ToLower(ws.Name), strings.ToLower(found.name))
	})
	answer := struct {
		Workspaces []clientWorkspace `json:"workspaces"`
		Count      int               `json:"count"`
	}{[]clientWorkspace{}, len(list)}
	list = list[min(offset, len(list)):]
	if limit > 0 {
		list = list[:min(limit, len(list))]
	}
	for _, ws := range list {
		answer.Workspaces = append(answer.Workspaces, a.asClientWorkspace(ws))
	}
	a.reply(w, http.StatusOK, answer)
}

// number reads a count; nothing is 0.
func number(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	return int(n), err
}

func (a *API) badQuery(w http.ResponseWriter, field string, err error) {
	a.fail(w, http.StatusBadRequest, wire.Error{Message: "The request is not valid.",
		Validations: []wire.Validation{{Field: field, Detail: err.Error()}}})
}
