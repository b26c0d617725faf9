package gitauth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"
)

// fakeProvider behaves like GitHub or GitLab: codes work once and only with their
// verifier, refresh tokens work once, tokens end, rate limits are counted, and it
// can be told to misbehave.
type fakeProvider struct {
	*httptest.Server
	t    *testing.T
	kind string

	mu         sync.Mutex
	codes      map[string]url.Values // what the login asked for, by code
	refreshes  map[string]bool
	tokens     map[string]bool
	serial     int
	used       int
	lifetime   time.Duration // of tokens; 0 is for ever
	refreshing int           // calls that used a refresh token
	// misbehave answers instead, if it is set and returns true.
	misbehave func(w http.ResponseWriter, r *http.Request) bool
	headers   http.Header // on every answer, besides the limits
}

const fakeSecret = "client-s3cret"

func newFakeProvider(t *testing.T, kind string) *fakeProvider {
	t.Helper()
	f := &fakeProvider{t: t, kind: kind, codes: map[string]url.Values{}, refreshes: map[string]bool{}, tokens: map[string]bool{}, headers: http.Header{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", f.authorize)
	mux.HandleFunc("POST /token", f.token)
	mux.HandleFunc("POST /device", f.device)
	mux.HandleFunc("GET /user", f.user)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.limits(w.Header())
		for name, v := range f.headers {
			w.Header()[name] = v
		}
		if f.misbehave == nil || !f.misbehave(w, r) {
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

// provider is the configuration for it.
func (f *fakeProvider) provider() *Provider {
	f.t.Helper()
	host, err := url.Parse(f.URL)
	must(f.t, err)
	pc := ProviderConfig{
		ID: f.kind + "-test", Type: f.kind, ClientID: "client-id", ClientSecretFile: "s", Scopes: []string{"repo"}, HostRegex: `git\.example|` + host.Hostname(),
		AuthURL: f.URL + "/authorize", TokenURL: f.URL + "/token", ValidateURL: f.URL + "/user", DeviceURL: f.URL + "/device",
	}
	p, err := pc.provider(func(string) (Secret, error) { return fakeSecret, nil })
	must(f.t, err)
	return p
}

// resetIn is when limits are said to start anew.
const resetIn = 1000 * time.Second

func (f *fakeProvider) limits(h http.Header) {
	f.used++
	reset := fmt.Sprint(time.Now().Add(resetIn).Unix())
	if f.kind == GitHub {
		h.Set("X-RateLimit-Limit", "5000")
		h.Set("X-RateLimit-Remaining", fmt.Sprint(5000-f.used))
		h.Set("X-RateLimit-Used", fmt.Sprint(f.used))
		h.Set("X-RateLimit-Reset", reset)
		h.Set("X-RateLimit-Resource", "core")
		return
	}
	h.Set("RateLimit-Limit", "600")
	h.Set("RateLimit-Remaining", fmt.Sprint(600-f.used))
	h.Set("RateLimit-Observed", fmt.Sprint(f.used))
	h.Set("RateLimit-Reset", reset)
	h.Set("RateLimit-Name", "throttle_authenticated_api")
}

// authorize stands for a person who logs in and agrees at once.
func (f *fakeProvider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f.serial++
	code := fmt.Sprintf("code-%d", f.serial)
	f.codes[code] = q
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("client_id") != "client-id" || q.Get("response_type") != "code" || q.Get("scope") != "repo" {
		http.Error(w, "no such client", http.StatusBadRequest)
		return
	}
	back.RawQuery = url.Values{"code": {code}, "state": {q.Get("state")}}.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func (f *fakeProvider) refuse(w http.ResponseWriter, code string) {
	w.Header().Set("Content-Type", "application/json")
	if f.kind != GitHub { // which answers 200 then
		w.WriteHeader(http.StatusBadRequest)
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": "the body of the answer"})
}

func (f *fakeProvider) token(w http.ResponseWriter, r *http.Request) {
	bad := map[string]string{"authorization_code": "invalid_grant", "refresh_token": "invalid_grant"}
	if f.kind == GitHub {
		bad = map[string]string{"authorization_code": "bad_verification_code", "refresh_token": "bad_refresh_token"}
	}
	if r.PostFormValue("client_secret") != fakeSecret || r.PostFormValue("client_id") != "client-id" {
		f.refuse(w, "invalid_client")
		return
	}
	grant := r.PostFormValue("grant_type")
	switch grant {
	case "authorization_code":
		q, known := f.codes[r.PostFormValue("code")]
		delete(f.codes, r.PostFormValue("code"))
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if !known || q.Get("redirect_uri") != r.PostFormValue("redirect_uri") || q.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) {
			f.refuse(w, bad[grant])
			return
		}
	case "refresh_token":
		f.refreshing++
		if !f.refreshes[r.PostFormValue("refresh_token")] {
			f.refuse(w, bad[grant])
			return
		}
		delete(f.refreshes, r.PostFormValue("refresh_token"))
	case "urn:ietf:params:oauth:grant-type:device_code":
		if known := f.codes[r.PostFormValue("device_code")]; !known.Has("agreed") {
			f.refuse(w, "authorization_pending")
			return
		}
	default:
		f.refuse(w, "unsupported_grant_type")
		return
	}
	f.give(w)
}

func (f *fakeProvider) give(w http.ResponseWriter) {
	f.serial++
	answer := map[string]any{"access_token": fmt.Sprintf("access-%d", f.serial), "token_type": "bearer"}
	f.tokens[answer["access_token"].(string)] = true
	if f.lifetime > 0 {
		answer["refresh_token"], answer["expires_in"] = fmt.Sprintf("refresh-%d", f.serial), int(f.lifetime.Seconds())
		f.refreshes[answer["refresh_token"].(string)] = true
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func (f *fakeProvider) device(w http.ResponseWriter, r *http.Request) {
	f.codes["device-1"] = url.Values{}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"device_code": "device-1", "user_code": "AB-CD", "verification_uri": f.URL + "/login", "expires_in": 900, "interval": 5})
}

func (f *fakeProvider) user(w http.ResponseWriter, r *http.Request) {
	token, ok := cutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || !f.tokens[token] {
		w.WriteHeader(http.StatusUnauthorized)
	}
	_, _ = w.Write([]byte("{}"))
}

func cutPrefix(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || s[:len(prefix)] != prefix {
		return "", false
	}
	return s[len(prefix):], true
}

// set changes how the provider behaves.
func (f *fakeProvider) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// answer answers everything with a text as JSON.
func answer(text string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(text))
		return true
	}
}

// query returns a parameter of an address.
func query(t *testing.T, address, name string) string {
	t.Helper()
	u, err := url.Parse(address)
	must(t, err)
	return u.Query().Get(name)
}
