package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/activity"
	"github.com/worktally/worktally/server/controlapi"
	"github.com/worktally/worktally/server/gitauth"
	"github.com/worktally/worktally/server/licence"
)

// openPeople opens what the server keeps about people besides the catalog.
func (s *Server) openPeople(ctx context.Context) (err error) {
	s.activity, err = activity.Open(ctx, s.db, activity.Options{History: s.ledger, Now: s.o.Now, Log: s.log, Registerer: s.registry})
	if err != nil {
		return err
	}
	s.licence, err = licence.Open(licence.Options{File: s.o.LicenceFile, PublicKeyFile: s.o.LicencePublicKeyFile, Log: s.log, Registerer: s.registry})
	if err != nil {
		return err
	}
	s.git, err = s.openGit(ctx)
	return err
}

// secretsKeyFile is the key that seals secrets in the database.
const secretsKeyFile = "secrets-key"

// openGit returns nil if there is no key that would be there after a restart.
func (s *Server) openGit(ctx context.Context) (*gitauth.Service, error) {
	var key []byte
	var err error
	if s.o.SecretsKeyFile != "" {
		key, err = readKey(s.o.SecretsKeyFile)
	} else {
		key, err = s.key(secretsKeyFile)
	}
	if err != nil {
		return nil, err
	}
	if key == nil {
		if s.o.ExternalAuthFile != "" {
			return nil, errors.New("git providers (--external-auth-file) need a key for their tokens: give --secrets-key-file or --state-dir")
		}
		return nil, nil
	}
	var providers []*gitauth.Provider
	if s.o.ExternalAuthFile != "" {
		if providers, err = gitauth.ReadConfig(s.o.ExternalAuthFile); err != nil {
			return nil, fmt.Errorf("--external-auth-file: %w", err)
		}
	}
	return gitauth.Open(ctx, s.db, gitauth.Options{
		Providers: providers, Key: key, AccessURL: s.o.AccessURL.String(), Log: s.log, Registerer: s.registry,
		HideDeprecated: s.o.Prometheus.HideDeprecated,
	})
}

// peopleRow is what the server knows about people.
func (s *Server) peopleRow(t *exposition.Table) *exposition.Row {
	b := t.NewBuilder(exposition.Names{})
	s.activity.Fill(b)
	s.licence.Fill(b, s.activity.Month())
	return b.Row()
}

// instrumented counts every request of the listener for agents and people, and of
// the relay behind it.
func (s *Server) instrumented(mux *http.ServeMux) http.Handler {
	route := func(r *http.Request) string {
		_, pattern := mux.Handler(r)
		if pattern == "/" {
			return s.people.Route(r)
		}
		return pattern
	}
	return controlapi.NewInstrument(controlapi.InstrumentOptions{
		Route: route, Labels: s.o.Prometheus.Labels, Registerer: s.registry, Log: s.log,
	}).Wrap(mux)
}
