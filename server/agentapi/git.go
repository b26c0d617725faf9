package agentapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/worktally/worktally/internal/retry"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/gitauth"
	"github.com/worktally/worktally/wire"
)

const (
	// linkPoll is how often it is looked whether a person has linked an account.
	linkPoll = time.Second
	// linkWait is how long an agent is kept waiting for it. It then gets an error,
	// not the address again: a stock agent would take that for the credentials.
	linkWait = 50 * time.Second
)

// externalAuth is the answer about a git provider (contract agent-api.md section
// 3.2). If the owner has linked no account, only URL is set.
type externalAuth struct {
	AccessToken string         `json:"access_token"`
	TokenExtra  map[string]any `json:"token_extra"`
	URL         string         `json:"url"`
	Type        string         `json:"type"`
	Username    string         `json:"username"`
	Password    string         `json:"password"`
	// ExpiresAt is the zero time if the token does not end.
	ExpiresAt time.Time `json:"expires_at"`
}

// unlinked is the answer while there is no account.
type unlinked struct {
	URL string `json:"url"`
}

// gitSSHKey is the answer about the owner's key.
type gitSSHKey struct {
	PublicKey  string `json:"public_key"`
	PrivateKey string `json:"private_key"`
}

// serveExternalAuth gives the token of the workspace's owner for a provider.
func (s *Service) serveExternalAuth(w http.ResponseWriter, r *http.Request) {
	id, token, ok := s.authenticate(w, r)
	if !ok {
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	p, ok := s.askedProvider(w, r)
	if !ok {
		return
	}
	linked, err := s.o.Git.Token(r.Context(), id.Owner.ID, p)
	listen := strings.EqualFold(r.URL.Query().Get("listen"), "true")
	switch {
	case errors.Is(err, gitauth.ErrNotLinked) && !listen:
		wire.WriteJSON(w, http.StatusOK, unlinked{s.o.Git.LinkURL(p)})
		return
	case errors.Is(err, gitauth.ErrNotLinked):
		if linked, err = s.awaitLink(r.Context(), id, token, p); errors.Is(err, gitauth.ErrNotLinked) {
			wire.WriteError(w, http.StatusGatewayTimeout, wire.Error{Message: "The account is not linked yet.", Detail: "Ask again."})
			return
		}
	}
	if err != nil {
		s.failGit(w, r, err)
		return
	}
	wire.WriteJSON(w, http.StatusOK, externalAuth{
		AccessToken: string(linked.Access), Type: p.Type, Username: p.GitUsername(), Password: string(linked.Access), ExpiresAt: linked.Expires,
	})
}

// askedProvider returns the provider that a request names; false if it has
// answered.
func (s *Service) askedProvider(w http.ResponseWriter, r *http.Request) (*gitauth.Provider, bool) {
	query := r.URL.Query()
	id, match := query.Get("id"), query.Get("match")
	if (id == "") == (match == "") {
		wire.WriteError(w, http.StatusBadRequest, wire.Error{Message: `One of "id" and "match" must be given, and not both.`})
		return nil, false
	}
	var p *gitauth.Provider
	switch {
	case s.o.Git == nil:
	case id != "":
		p = s.o.Git.ByID(id)
	default:
		p = s.o.Git.Match(match)
	}
	if p == nil {
		wire.WriteError(w, http.StatusNotFound, wire.Error{Message: "No git provider of the server matches."})
	}
	return p, p != nil
}

// awaitLink waits until the owner has linked an account, on whatever replica. The
// wait ends with the agent's right to it, and with the server.
func (s *Service) awaitLink(ctx context.Context, id catalog.Identity, agentToken string, p *gitauth.Provider) (gitauth.Token, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	open, ok := s.open(id.Agent.ID, asking, agentToken, cancel)
	if !ok {
		return gitauth.Token{}, errServerStop
	}
	defer s.sessions.remove(open)
	if _, err := s.identify(ctx, open); err != nil {
		return gitauth.Token{}, errDropped
	}
	for ends := time.Now().Add(linkWait); ; {
		if err := retry.Sleep(ctx, linkPoll); err != nil {
			return gitauth.Token{}, context.Cause(ctx)
		}
		token, err := s.o.Git.Token(ctx, id.Owner.ID, p)
		if !errors.Is(err, gitauth.ErrNotLinked) || time.Now().After(ends) {
			return token, err
		}
	}
}

// serveGitSSHKey gives the key of the workspace's owner.
func (s *Service) serveGitSSHKey(w http.ResponseWriter, r *http.Request) {
	id, _, ok := s.authenticate(w, r)
	if !ok {
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	if s.o.Git == nil {
		wire.WriteError(w, http.StatusNotFound, wire.Error{Message: "The server keeps no SSH keys."})
		return
	}
	key, err := s.o.Git.SSHKey(r.Context(), id.Owner.ID)
	if err != nil {
		s.failGit(w, r, err)
		return
	}
	wire.WriteJSON(w, http.StatusOK, gitSSHKey{key.Public, string(key.Private)})
}

// failGit answers with what an error means to git.
func (s *Service) failGit(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, errServerStop), errors.Is(err, errTooMany), errors.Is(err, errDropped):
		wire.WriteError(w, http.StatusServiceUnavailable, wire.Error{Message: "The request was ended.", Detail: err.Error()})
	case errors.Is(err, gitauth.ErrProvider):
		wire.WriteError(w, http.StatusBadGateway, wire.Error{Message: "The git provider could not be used.", Detail: err.Error()})
	case r.Context().Err() != nil:
		wire.WriteError(w, 499, wire.Error{Message: "The caller went away."}) // for the record only: nobody reads it
	default:
		s.log.Error("serve git in a workspace", "err", err)
		wire.WriteError(w, http.StatusInternalServerError, wire.Error{Message: "Internal server error.", Detail: "The server's log says more."})
	}
}
