package client

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/worktally/worktally/wire"
)

// people answers like a server that has the workspaces one (agent main) and two
// (agents a and b) of the caller.
func people(t *testing.T) API {
	t.Helper()
	one := `{"name":"one","latest_build":{"resources":[{"agents":[{"id":"11111111-2222-3333-4444-555555555555","name":"main"}]}]}}`
	two := `{"name":"two","latest_build":{"resources":[{"agents":[{"id":"11111111-2222-3333-4444-555555555556","name":"a"}]},{"agents":[{"id":"11111111-2222-3333-4444-555555555557","name":"b"}]}]}}`
	mux := http.NewServeMux()
	answer := func(path, body string) {
		mux.HandleFunc("GET /api/v2/users/"+path, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get(wire.TokenHeader) != "token" {
				wire.WriteError(w, http.StatusUnauthorized, wire.Error{Message: "who are you"})
				return
			}
			_, _ = io.WriteString(w, body)
		})
	}
	answer("me/workspace/one", one)
	answer("other/workspace/two", two)
	answer("me/workspace/empty", `{"name":"empty"}`)
	answer("me/workspace/garbage", `{"name":7}`)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		wire.WriteError(w, http.StatusNotFound, wire.Error{Message: "no such workspace", Detail: "look at the list"})
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return API{URL: u, Token: "token", HTTPClient: s.Client()}
}

func TestAPI_Find(t *testing.T) {
	api := people(t)
	for name, agent := range map[string]string{"one": "main", "one.main": "main", "other/two.b": "b"} {
		if _, a, err := api.Find(t.Context(), name); err != nil || a.Name != agent {
			t.Errorf("%s: %+v %v", name, a, err)
		}
	}
	for name, want := range map[string]string{
		"other/two":   "name one: a, b",
		"other/two.c": "no agent c, only a, b",
		"one.gone":    "no agent gone",
		"empty":       "has no agent",
		"gone":        "no such workspace (look at the list)",
		"garbage":     "read the server's answer",
		"/one":        "is not [owner/]workspace[.agent]",
		"me/":         "is not [owner/]workspace[.agent]",
	} {
		if _, _, err := api.Find(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	api.Token = "stolen"
	if _, _, err := api.Find(t.Context(), "one"); err == nil || !strings.Contains(err.Error(), "who are you") || strings.Contains(err.Error(), "stolen") {
		t.Errorf("%v", err)
	}
}

func TestAPI_TheTokenStaysWithTheServer(t *testing.T) {
	stranger := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a stranger was asked for %s with token %q", r.URL.Path, r.Header.Get(wire.TokenHeader))
	}))
	defer stranger.Close()
	s := httptest.NewServer(http.RedirectHandler(stranger.URL, http.StatusFound))
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*http.Client{nil, s.Client()} {
		a := API{URL: u, Token: "token", HTTPClient: c}
		if _, _, err := a.Find(t.Context(), "me/w"); err == nil {
			t.Error("a redirect is an answer")
		}
		if _, err := Dial(t.Context(), Options{API: a, Workspace: "me/w"}); err == nil {
			t.Error("a redirect is a workspace")
		}
	}
}
