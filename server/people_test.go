package server

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/client"
	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/licence"
)

// scrape is the metrics page as Prometheus gets it.
func (w *world) scrape() string {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.server.metrics.ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	return rec.Body.String()
}

func (w *world) awaitLines(lines ...string) {
	w.t.Helper()
	var page string
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		page = w.scrape()
		missing := ""
		for _, line := range lines {
			if !strings.Contains(page, "\n"+line+"\n") {
				missing = line
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("no line %q on the page:\n%s", missing, page)
		}
	}
}

// TestPeople_APIMetrics: agents, people, their clients and the relay are counted,
// each under its route.
func TestPeople_APIMetrics(t *testing.T) {
	w := newWorld(t, Options{Relays: Relays{BlockDirect: true}})
	p := w.dial(w.admin, "dev")
	transfer(t, p)
	w.call("none", "GET", "/api/v2/workspaceagents/me/rpc", "", http.StatusUnauthorized)
	w.call(w.admin, "GET", "/api/v2/nothing", "", http.StatusNotFound)
	w.awaitLines(
		`coderd_api_concurrent_websockets{path="/api/v2/workspaceagents/me/rpc"} 1`,
		`coderd_api_concurrent_websockets{path="/api/v2/workspaceagents/{workspaceagent}/coordinate"} 1`,
		`coderd_api_concurrent_websockets{path="/derp"} 2`,
		`coderd_api_requests_processed_total{code="201",method="POST",path="/api/worktally/v1/workspaces"} 1`,
		`coderd_api_requests_processed_total{code="401",method="GET",path="/api/v2/workspaceagents/me/rpc"} 1`,
		`coderd_api_requests_processed_total{code="404",method="GET",path="UNKNOWN"} 1`,
		`coderd_api_request_latencies_seconds_count{method="POST",path="/api/worktally/v1/workspaces"} 1`,
	)
	must(t, p.Close())
	w.awaitLines(`coderd_api_requests_processed_total{code="101",method="GET",path="/api/v2/workspaceagents/{workspaceagent}/coordinate"} 1`,
		`coderd_api_websocket_durations_seconds_count{path="/api/v2/workspaceagents/{workspaceagent}/coordinate"} 1`)
	if strings.Contains(w.scrape(), `code="0"`) {
		t.Error("there is a code 0")
	}
}

// TestPeople_ActiveUsers: a person who calls is active, also right after a
// restart.
func TestPeople_ActiveUsers(t *testing.T) {
	w := newWorld(t, Options{Prometheus: Prometheus{Labels: exposition.LabelsSeed}})
	w.awaitLines("coderd_api_active_users_duration_hour 1", "coderd_api_concurrent_requests 0", "coderd_api_concurrent_websockets 2")
	w.stop()
	w.start()
	if page := w.scrape(); !strings.Contains(page, "\ncoderd_api_active_users_duration_hour 1\n") {
		t.Errorf("after a restart:\n%s", page)
	}
	_, err := client.API{URL: w.url, Token: "invalid"}.ConnectionInfo(t.Context(), w.agentID)
	http.DefaultClient.CloseIdleConnections()
	if err == nil {
		t.Error("an invalid token was let in")
	}
}

// TestPeople_Licence: the licence is on the page, and its limit counts.
func TestPeople_Licence(t *testing.T) {
	dir := t.TempDir()
	private, public, err := licence.NewKeys()
	must(t, err)
	key, err := licence.ParsePrivateKey(private)
	must(t, err)
	text, err := licence.Sign(licence.Licence{ID: uuid.New(), Holder: "team", Seats: 1, Enforce: true, IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}, key)
	must(t, err)
	o := Options{LicenceFile: filepath.Join(dir, "l"), LicencePublicKeyFile: filepath.Join(dir, "k")}
	must(t, os.WriteFile(o.LicenceFile, text, 0o600))
	must(t, os.WriteFile(o.LicencePublicKeyFile, public, 0o600))
	w := newWorld(t, o)
	w.awaitLines("coderd_license_active_users 1", "coderd_license_limit_users 1", "coderd_license_user_limit_enabled 1")
	if body := w.call(w.admin, "POST", "/api/worktally/v1/users", `{"username":"ann"}`, http.StatusForbidden); !strings.Contains(body, "no free seat") {
		t.Errorf("the answer: %s", body)
	}
}
