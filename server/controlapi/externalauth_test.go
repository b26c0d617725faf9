package controlapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/gitauth"
)

// hub is the API with a git provider behind it, which gives the token "tok" for
// the code "good".
type hub struct {
	*httptest.Server
	t      *testing.T
	served *API
	ann    string // token
	asked  []string
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{t: t}
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/device":
			_, _ = w.Write([]byte(`{"device_code":"dev","user_code":"AB-CD","verification_uri":"https://x/","expires_in":900}`))
		case r.FormValue("device_code") == "dev" && len(h.asked) == 0:
			h.asked = append(h.asked, "dev")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"error":"authorization_pending"}`))
		case r.FormValue("code") == "good" || r.FormValue("device_code") == "dev":
			_, _ = w.Write([]byte(`{"access_token":"tok","token_type":"bearer"}`))
		default:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
		}
	}))
	t.Cleanup(provider.Close)
	dir := t.TempDir()
	config := filepath.Join(dir, "git.yaml")
	must(t, os.WriteFile(config, []byte("providers: [{id: git, type: generic, display_name: '<Git>', client_id: c, auth_url: "+provider.URL+"/auth, token_url: "+
		provider.URL+"/token, device_url: "+provider.URL+"/device, host_regex: git.example}]"), 0o600))
	providers, err := gitauth.ReadConfig(config)
	must(t, err)
	db, err := sqldb.Open(t.Context(), filepath.Join(dir, "test.db"))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	c, err := catalog.Open(t.Context(), db, catalog.Options{})
	must(t, err)
	_, h.ann, err = c.CreateUser(t.Context(), "ann", false)
	must(t, err)
	var handler http.Handler
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(h.Close)
	git, err := gitauth.Open(t.Context(), db, gitauth.Options{Providers: providers, Key: make([]byte, gitauth.KeySize), AccessURL: h.URL})
	must(t, err)
	t.Cleanup(git.Close)
	h.served = New(Options{Catalog: c, Git: git})
	handler = h.served
	return h
}

// browse asks as a browser with cookies does, without following redirects.
func (h *hub) browse(method, path, form string, cookies ...*http.Cookie) (*http.Response, string) {
	h.t.Helper()
	return h.browseFrom("", method, path, form, cookies...)
}

// browseFrom asks from a page of some origin.
func (h *hub) browseFrom(origin, method, path, form string, cookies ...*http.Cookie) (*http.Response, string) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.URL+path, strings.NewReader(form))
	must(h.t, err)
	if origin != "" {
		req.Header.Set("Origin", origin)
	}
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, c := range cookies {
		req.AddCookie(c)
	}
	resp, err := h.Client().Transport.RoundTrip(req)
	must(h.t, err)
	defer resp.Body.Close()
	var b strings.Builder
	_, err = io.Copy(&b, resp.Body)
	must(h.t, err)
	return resp, b.String()
}

// api asks as a program with a token does.
func (h *hub) api(method, path string, status int) string {
	h.t.Helper()
	resp, body := h.browse(method, path, "", &http.Cookie{Name: "coder_session_token", Value: h.ann})
	if resp.StatusCode != status {
		h.t.Fatalf("%s %s: %s, want %d: %s", method, path, resp.Status, status, body)
	}
	return body
}

// TestExternalAuth_InABrowser: from the page that wants the token, by way of the
// provider, to the page that says that all is well.
func TestExternalAuth_InABrowser(t *testing.T) {
	h := newHub(t)
	resp, body := h.browse("GET", "/external-auth/git", "")
	if resp.StatusCode != 401 || !strings.Contains(body, `name="token"`) || !strings.Contains(body, "&lt;Git&gt;") || strings.Contains(body, "<Git>") ||
		!strings.Contains(resp.Header.Get("Content-Security-Policy"), "form-action 'self' http://127.0.0.1:") {
		t.Errorf("%s %v: %s", resp.Status, resp.Header, body)
	}
	if resp, _ := h.browse("POST", "/external-auth/git", "token=wrong"); resp.StatusCode != 401 || len(resp.Cookies()) != 0 {
		t.Errorf("a wrong token: %s", resp.Status)
	}
	for origin, status := range map[string]int{h.URL: 303, "http://evil.example": 403, "null": 403} {
		if resp, _ := h.browseFrom(origin, "POST", "/external-auth/git", "token="+h.ann); resp.StatusCode != status {
			t.Errorf("a form of %s: %s, want %d", origin, resp.Status, status)
		}
	}
	resp, _ = h.browse("POST", "/external-auth/git", "token="+h.ann)
	to, err := url.Parse(resp.Header.Get("Location"))
	must(t, err)
	if resp.StatusCode != http.StatusSeeOther || len(resp.Cookies()) != 1 || strings.Contains(to.String(), h.ann) || to.Query().Get("code_challenge_method") != "S256" {
		t.Fatalf("%s to %s with %v", resp.Status, to, resp.Cookies())
	}
	cookie := resp.Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/external-auth/git" || cookie.MaxAge != 600 {
		t.Errorf("cookie %v", cookie)
	}
	back := "/external-auth/git/callback?state=" + url.QueryEscape(to.Query().Get("state"))
	for _, c := range []struct {
		name, query string
		cookies     []*http.Cookie
		status      int
		want        string
	}{
		{"another browser", "&code=good", nil, 400, "not begun in this browser"},
		{"refused", "&error=access_denied", []*http.Cookie{cookie}, 403, "refused"},
		{"a bad code", "&code=bad", []*http.Cookie{cookie}, 502, "could not be used"},
		{"a good one", "&code=good", []*http.Cookie{cookie}, 200, "is linked"},
	} {
		resp, body := h.browse("GET", back+c.query, "", c.cookies...)
		if resp.StatusCode != c.status || !strings.Contains(body, c.want) || resp.Cookies()[0].MaxAge >= 0 {
			t.Errorf("%s: %s, %v: %s", c.name, resp.Status, resp.Cookies(), body)
		}
	}
	if body := h.api("GET", v1+"/external-auth", 200); !strings.Contains(body, `"linked":true`) || strings.Contains(body, "tok") {
		t.Errorf("list: %s", body)
	}
	h.api("DELETE", v1+"/external-auth/git", 204)
	if body := h.api("GET", v1+"/external-auth", 200); !strings.Contains(body, `"linked":false`) {
		t.Errorf("list: %s", body)
	}
	if resp, _ := h.browse("GET", "/external-auth/none", ""); resp.StatusCode != 404 {
		t.Errorf("no such provider: %s", resp.Status)
	}
	if resp, _ := h.browse("GET", "/external-auth/none/callback", ""); resp.StatusCode != 404 {
		t.Errorf("no such provider: %s", resp.Status)
	}
}

func TestExternalAuth_ByDevice(t *testing.T) {
	h := newHub(t)
	if body := h.api("POST", v1+"/external-auth/git/device", 200); !strings.Contains(body, `"user_code":"AB-CD"`) {
		t.Errorf("begin: %s", body)
	}
	h.api("POST", v1+"/external-auth/git/device/dev", 202)
	h.api("POST", v1+"/external-auth/git/device/dev", 204)
	h.api("POST", v1+"/external-auth/git/device/other", 502)
	if body := h.api("GET", v1+"/external-auth", 200); !strings.Contains(body, `"linked":true`) {
		t.Errorf("list: %s", body)
	}
}

func TestSSHKey_OnlyThePublicHalf(t *testing.T) {
	h := newHub(t)
	first := h.api("GET", v1+"/users/me/gitsshkey", 200)
	if !strings.Contains(first, `"public_key":"ssh-ed25519 `) || strings.Contains(first, "PRIVATE") || h.api("GET", v1+"/users/me/gitsshkey", 200) != first {
		t.Errorf("key: %s", first)
	}
	if h.api("PUT", v1+"/users/me/gitsshkey", 200) == first {
		t.Error("the key was not renewed")
	}
	if resp, _ := h.browse("GET", v1+"/users/me/gitsshkey", ""); resp.StatusCode != 401 {
		t.Errorf("without a token: %s", resp.Status)
	}
}
