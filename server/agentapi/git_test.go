package agentapi_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/server/agentapi"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/gitauth"
)

// gitWorld is a world with one git provider, which gives the token "tok" for any
// code, and whose token ends in an hour.
type gitWorld struct {
	*world
	git      *gitauth.Service
	provider *httptest.Server
}

func newGitWorld(t *testing.T) *gitWorld {
	t.Helper()
	g := &gitWorld{provider: httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"tok","token_type":"bearer","expires_in":3600}`)
	}))}
	t.Cleanup(g.provider.Close)
	dir := t.TempDir()
	path := filepath.Join(dir, "test.db")
	db, err := sqldb.Open(t.Context(), path)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	_, err = catalog.Open(t.Context(), db, catalog.Options{})
	must(t, err)
	config := filepath.Join(dir, "git.json")
	must(t, os.WriteFile(config, []byte(`{"providers": [{"id": "ours", "type": "gitlab", "client_id": "c", "host_regex": "git.example(:80)?", "validate_url": "`+
		g.provider.URL+`", "auth_url": "`+g.provider.URL+`", "token_url": "`+g.provider.URL+`"}]}`), 0o600))
	providers, err := gitauth.ReadConfig(config)
	must(t, err)
	g.git, err = gitauth.Open(t.Context(), db, gitauth.Options{Providers: providers, Key: make([]byte, gitauth.KeySize), AccessURL: "https://hub.example"})
	must(t, err)
	t.Cleanup(g.git.Close)
	g.world = newWorld(t, setup{path: path, options: func(o *agentapi.Options) { o.Git = g.git }})
	return g
}

// link links the owner's account.
func (g *gitWorld) link() {
	g.t.Helper()
	address, nonce, err := g.git.Begin(g.user.ID, g.git.ByID("ours"))
	must(g.t, err)
	u, err := url.Parse(address)
	must(g.t, err)
	must(g.t, g.git.Finish(g.t.Context(), g.git.ByID("ours"), u.Query().Get("state"), nonce, "code"))
}

// ask returns the status and the answer.
func (g *gitWorld) ask(path, token string) (int, map[string]any) {
	g.t.Helper()
	resp := g.get("/api/v2/workspaceagents/me/"+path, token)
	body, err := io.ReadAll(resp.Body)
	must(g.t, err)
	answer := make(map[string]any)
	if err := json.Unmarshal(body, &answer); err != nil || resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		g.t.Fatalf("%s: %s: %s", path, resp.Header.Get("Content-Type"), body)
	}
	return resp.StatusCode, answer
}

// TestExternalAuth: contract agent-api.md section 3.2.
func TestExternalAuth(t *testing.T) {
	g := newGitWorld(t)
	for _, c := range []struct {
		path, token string
		status      int
	}{
		{"external-auth?id=ours", "", 401},
		{"external-auth", g.token, 400},
		{"external-auth?id=ours&match=git.example", g.token, 400},
		{"external-auth?id=other", g.token, 404},
		{"external-auth?match=git.example.org", g.token, 404},
		{"external-auth?match=git.example:443&listen=true", g.token, 404},
	} {
		if status, answer := g.ask(c.path, c.token); status != c.status || answer["message"] == "" {
			t.Errorf("%s: %d %v, want %d", c.path, status, answer, c.status)
		}
	}
	status, answer := g.ask("external-auth?match=git.example", g.token)
	if diff := cmp.Diff(map[string]any{"url": "https://hub.example/external-auth/ours"}, answer); diff != "" || status != 200 {
		t.Errorf("before the account is linked: %d (-want +got):\n%s", status, diff)
	}
	g.link()
	for _, path := range []string{"external-auth?match=git.example", "external-auth?match=http://git.example:80/x.git", "external-auth?id=ours&listen=true", "gitauth?match=git.example"} {
		status, answer := g.ask(path, g.token)
		ends, err := time.Parse(time.RFC3339, answer["expires_at"].(string))
		if left := time.Until(ends); err != nil || left < 50*time.Minute || left > time.Hour {
			t.Errorf("%s: ends at %v: %v", path, answer["expires_at"], err)
		}
		delete(answer, "expires_at")
		want := map[string]any{"access_token": "tok", "token_extra": nil, "url": "", "type": "gitlab", "username": "oauth2", "password": "tok"}
		if diff := cmp.Diff(want, answer); diff != "" || status != 200 {
			t.Errorf("%s: %d (-want +got):\n%s", path, status, diff)
		}
	}
}

// TestExternalAuth_Listens: until the account is linked, or the agent has no right
// to it any more.
func TestExternalAuth_Listens(t *testing.T) {
	g := newGitWorld(t)
	got := make(chan map[string]any, 1)
	listen := func() { _, answer := g.ask("external-auth?id=ours&listen=true", g.token); got <- answer }
	go listen()
	select {
	case answer := <-got:
		t.Fatalf("answered at once: %v", answer)
	case <-time.After(50 * time.Millisecond):
	}
	g.link()
	if answer := <-got; answer["access_token"] != "tok" {
		t.Errorf("after the link: %v", answer)
	}
	must(t, g.git.Unlink(t.Context(), g.user.ID, g.git.ByID("ours")))
	go listen()
	poll(t, "the request is dropped", func() bool {
		g.agents.Drop(g.agent.ID)
		select {
		case answer := <-got:
			return strings.Contains(answer["detail"].(string), "no longer valid")
		default:
			return false
		}
	})
}

// TestExternalAuth_EndsWithTheToken: who waits with a token that has an end is given
// nothing after it.
func TestExternalAuth_EndsWithTheToken(t *testing.T) {
	t.Parallel()
	g := newGitWorld(t)
	_, err := g.catalog.ReplaceAgentToken(t.Context(), g.ws.ID, "main", 5*time.Second) // it is still valid when the request comes
	must(t, err)
	began := time.Now()
	status, answer := g.ask("external-auth?id=ours&listen=true", g.token)
	if detail, _ := answer["detail"].(string); status != 503 || !strings.Contains(detail, "no longer valid") || time.Since(began) > 40*time.Second { // without the end it is 50 s
		t.Errorf("after %v: %d %v", time.Since(began), status, answer)
	}
}

func TestGitSSHKey(t *testing.T) {
	g := newGitWorld(t)
	if status, _ := g.ask("gitsshkey", ""); status != 401 {
		t.Errorf("without a token: %d", status)
	}
	status, key := g.ask("gitsshkey", g.token)
	if status != 200 || !strings.HasPrefix(key["public_key"].(string), "ssh-ed25519 ") || !strings.HasPrefix(key["private_key"].(string), "-----BEGIN OPENSSH PRIVATE KEY-----") {
		t.Errorf("%d %v", status, key)
	}
	if _, again := g.ask("gitsshkey", g.token); cmp.Diff(key, again) != "" {
		t.Error("another key the second time")
	}
}

// TestGit_ServerWithoutAnything: the helpers let git go on by itself on 404.
func TestGit_ServerWithoutAnything(t *testing.T) {
	g := &gitWorld{world: newWorld(t, setup{})}
	for _, path := range []string{"gitsshkey", "external-auth?match=git.example"} {
		if status, _ := g.ask(path, g.token); status != 404 {
			t.Errorf("%s: %d", path, status)
		}
	}
}
