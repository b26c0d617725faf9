package agentauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const token = "5f0e7c3e-6d7f-4f0c-9a57-0f6b5e1f3a10"

// cloud behaves like the metadata services of the three clouds.
func cloud(t *testing.T) *httptest.Server {
	mux := http.NewServeMux()
	answer := func(path, header, want, text string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get(header) != want {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			_, _ = w.Write([]byte(text))
		})
	}
	answer("GET /computeMetadata/v1/instance/service-accounts/default/identity", "Metadata-Flavor", "Google", "the.jwt")
	answer("PUT /latest/api/token", "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300", "session")
	answer("GET /latest/dynamic/instance-identity/signature", "X-Aws-Ec2-Metadata-Token", "session", "sig")
	answer("GET /latest/dynamic/instance-identity/document", "X-Aws-Ec2-Metadata-Token", "session", "doc")
	answer("GET /metadata/attested/document", "Metadata", "true", `{"signature":"sig","encoding":"pkcs7"}`)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestSource_ProvesAndRemembers(t *testing.T) {
	for method, want := range map[string]map[string]string{
		Google: {"json_web_token": "the.jwt"},
		AWS:    {"signature": "sig", "document": "doc"},
		Azure:  {"signature": "sig", "encoding": "pkcs7"},
	} {
		asked := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			var got map[string]string
			if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(want, got); diff != "" || r.URL.Path != "/api/v2/workspaceagents/"+method || r.Header.Get("X-Extra") != "1" {
				t.Errorf("%s: %s %v %s", method, r.URL.Path, r.Header, diff)
			}
			_, _ = w.Write([]byte(`{"session_token":"` + token + `"}`))
		}))
		u, _ := url.Parse(server.URL)
		s, err := New(Options{Method: method, URL: u, Client: server.Client(), MetadataURL: cloud(t).URL,
			Header: func(context.Context) (http.Header, error) { return http.Header{"X-Extra": {"1"}}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got, err := s.Token(t.Context()); err != nil || got != token {
				t.Errorf("%s: %q %v", method, got, err)
			}
		}
		if asked != 1 {
			t.Errorf("%s: asked %d times", method, asked)
		}
		server.Close()
	}
}

func TestSource_ErrorsHideBodies(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"refused":  func(w http.ResponseWriter) { http.Error(w, "secret", http.StatusUnauthorized) },
		"garbage":  func(w http.ResponseWriter) { _, _ = w.Write([]byte("secret")) },
		"no token": func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"session_token":"secret"}`)) },
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
		u, _ := url.Parse(server.URL)
		s, err := New(Options{Method: Google, URL: u, Client: server.Client(), MetadataURL: cloud(t).URL})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Token(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
		server.Close()
	}
	if _, err := New(Options{Method: "carrier-pigeon"}); err == nil {
		t.Error("an unknown method is accepted")
	}
}
