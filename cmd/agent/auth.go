package main

import (
	"context"
	"net/http"
	"net/url"

	"github.com/worktally/worktally/agent/agentauth"
)

// authenticator returns where the token comes from.
func (f flags) authenticator(p process, u *url.URL, client *http.Client) (func(context.Context) (string, error), error) {
	if f.Auth == "token" {
		return f.tokenSource(p.getenv), nil
	}
	s, err := agentauth.New(agentauth.Options{Method: f.Auth, URL: u, Client: client, Header: f.headerSource()})
	if err != nil {
		return nil, usageErr{err}
	}
	return s.Token, nil
}
