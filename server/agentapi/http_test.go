package agentapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/vectors"
	"github.com/worktally/worktally/server/agentapi"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

// get makes a request with a token and extra headers given in pairs.
func (w *world) get(path, token string, headers ...string) *http.Response {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+path, nil)
	must(w.t, err)
	if token != "" {
		r.AddCookie(&http.Cookie{Name: wire.TokenCookie, Value: token})
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	must(w.t, err)
	w.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

const rpcPath = "/api/v2/workspaceagents/me/rpc"

// TestHTTP_RecordedRefusals compares our refusals with the recorded ones. Only
// our own version and the detail about an unknown token are ours.
func TestHTTP_RecordedRefusals(t *testing.T) {
	w := newWorld(t, setup{})
	for _, c := range []struct{ file, query, token string }{
		{"no-token", "?version=2.6", ""},
		{"token-not-a-uuid", "?version=2.6", "abc"},
		{"unknown-token", "?version=2.6", uuid.NewString()},
		{"minor-too-new", "?version=2.99", w.token},
		{"major-too-new", "?version=3.0", w.token},
		{"major-too-old", "?version=1.0", w.token},
		{"version-garbage", "?version=abc", w.token},
		{"header-token-no-upgrade", "?version=2.6", w.token},
	} {
		t.Run(c.file, func(t *testing.T) {
			raw := vectors.Read(t, "http/errors/"+c.file+"-response.txt")
			want, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
			must(t, err)
			wantBody, err := io.ReadAll(want.Body)
			must(t, err)
			got := w.get(rpcPath+c.query, c.token)
			gotBody, err := io.ReadAll(got.Body)
			must(t, err)
			if got.StatusCode != want.StatusCode || got.Header.Get("Content-Type") != want.Header.Get("Content-Type") {
				t.Errorf("%d %q, want %d %q", got.StatusCode, got.Header.Get("Content-Type"), want.StatusCode, want.Header.Get("Content-Type"))
			}
			wantText := strings.ReplaceAll(string(wantBody), "server is at version 2.6", "server is at version 2.13")
			gotText := string(gotBody)
			if c.file == "unknown-token" {
				wantText, gotText = withoutDetail(t, wantText), withoutDetail(t, gotText)
			}
			if c.file == "header-token-no-upgrade" {
				// The library of today words its errors a little differently.
				wantText = strings.Replace(wantText, "failed to accept WebSocket connection: ", "", 1)
				gotText = strings.Replace(gotText, "failed to accept WebSocket connection: ", "", 1)
			}
			if diff := cmp.Diff(wantText, gotText); diff != "" {
				t.Errorf("body (-recorded +ours):\n%s", diff)
			}
		})
	}
	for reason, n := range map[string]string{"no_token": "1", "bad_token": "1", "unknown_token": "1", "version": "4", "upgrade": "1", "error": "0"} {
		if got := w.count("worktally_agent_rejected_total", "reason", reason); got != n {
			t.Errorf("rejected for %s: %s, want %s", reason, got, n)
		}
	}
}

func withoutDetail(t *testing.T, text string) string {
	t.Helper()
	var e wire.Error
	must(t, json.Unmarshal([]byte(text), &e))
	if e.Detail == "" {
		t.Error("no detail")
	}
	return e.Message
}

func TestHTTP_VersionsAndTokens(t *testing.T) {
	w := newWorld(t, setup{})
	for minor := range 14 {
		version := wire.Version{Major: 2, Minor: minor}.String()
		p := w.dialAs(w.token, "?version="+version)
		_, err := p.GetManifest(t.Context(), &agentpb.GetManifestRequest{})
		must(t, err)
		if got := w.state().APIVersion; got != version {
			t.Errorf("version %q was noted as %q", version, got)
		}
		must(t, p.Close())
	}
	_, err := w.dialAs(w.token, "").GetManifest(t.Context(), &agentpb.GetManifestRequest{})
	must(t, err)
	if got := w.state().APIVersion; got != "2.0" {
		t.Errorf("no version was noted as %q", got)
	}
	for _, v := range []string{"2.14", "1.9", "3.0", "2", "2.x", "x.2", "2.6.1", "2.-1", "-2.0", "2.99999999999999999999", "%00", ""} {
		resp := w.get(rpcPath+"?version="+v, w.token, "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13",
			"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		want := http.StatusBadRequest
		if v == "" {
			want = http.StatusSwitchingProtocols
		}
		if resp.StatusCode != want {
			t.Errorf("version %q: %d, want %d", v, resp.StatusCode, want)
		}
	}
	for _, token := range []string{"urn:uuid:" + w.token, "{" + w.token + "}", strings.ReplaceAll(w.token, "-", ""), strings.Repeat("x", 8000)} {
		if resp := w.get(rpcPath, token); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("token %.50q: %d", token, resp.StatusCode)
		}
	}
}

// brokenCatalog cannot read.
type brokenCatalog struct{ agentapi.Catalog }

func (brokenCatalog) AgentByToken(context.Context, string) (catalog.Identity, error) {
	return catalog.Identity{}, io.ErrUnexpectedEOF
}

func TestHTTP_CatalogBroken(t *testing.T) {
	w := newWorld(t, setup{options: func(o *agentapi.Options) { o.Catalog = brokenCatalog{o.Catalog} }})
	resp := w.get(rpcPath, w.token)
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != 500 || string(body) != `{"message":"Internal error checking workspace agent authorization."}`+"\n" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestHTTP_Role(t *testing.T) {
	w := newWorld(t, setup{})
	helper := w.dialAs(w.token, "?version=2.11&role=logs")
	_, err := helper.GetManifest(t.Context(), &agentpb.GetManifestRequest{})
	must(t, err)
	// A helper does not stand for the agent: neither its coming nor its lifecycle
	// nor its going.
	if !w.state().FirstConnectedAt.IsZero() || w.agents.Connected(w.agent.ID) {
		t.Error("a helper connection made the agent connected")
	}
	agent := w.dialAs(w.token, "?version=2.11&role=agent")
	_, err = agent.GetManifest(t.Context(), &agentpb.GetManifestRequest{})
	must(t, err)
	_, err = agent.UpdateStats(t.Context(), stockStats(1, 1))
	must(t, err)
	if _, shown := w.page()[w.series("coderd_agentstats_rx_bytes")]; !shown {
		t.Fatal("no series after the report")
	}
	if !w.agents.Connected(w.agent.ID) {
		t.Error("the agent is not connected")
	}
	// Neither one that was there before the agent, nor one that came after it.
	later := w.dialAs(w.token, "?version=2.11&role=logs")
	for _, h := range []*peer{helper, later} {
		_, err = h.UpdateLifecycle(t.Context(), lifecycle(agentpb.Lifecycle_OFF))
		must(t, err)
		_, err = h.UpdateStats(t.Context(), stockStats(40, 0))
		must(t, err)
		must(t, h.Close())
	}
	w.want(map[string]string{w.series("coderd_agentstats_rx_bytes"): "1"})
	poll(t, "the end of the helper", func() bool { return w.page()["worktally_agent_sessions"] == "1" })
	if _, shown := w.page()[w.series("coderd_agentstats_rx_bytes")]; !shown || !w.agents.Connected(w.agent.ID) {
		t.Error("the helper ended the agent")
	}
	must(t, agent.Close())
	poll(t, "the disconnect", func() bool { return !w.state().DisconnectedAt.IsZero() })
}

func TestHTTP_Reinit(t *testing.T) {
	w := newWorld(t, setup{})
	if resp := w.get("/api/v2/workspaceagents/me/reinit", uuid.NewString()); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("unknown token: %d", resp.StatusCode)
	}
	refused := w.get("/api/v2/workspaceagents/me/reinit?wait=true", "", wire.TokenHeader, w.token)
	body, err := io.ReadAll(refused.Body)
	must(t, err)
	if refused.StatusCode != http.StatusConflict || !json.Valid(body) {
		t.Errorf("with wait: %d %s", refused.StatusCode, body)
	}
	stream := w.get("/api/v2/workspaceagents/me/reinit", w.token)
	want := string(vectors.Read(t, "http/reinit-response-body-start.bin"))
	first := make([]byte, len("event: ping\n\n"))
	_, err = io.ReadFull(stream.Body, first) // at once, not after 15 s
	must(t, err)
	if stream.StatusCode != 200 || stream.Header.Get("Content-Type") != "text/event-stream" || !strings.Contains(want, strings.TrimSpace(string(first))) {
		t.Errorf("%d %q: %q", stream.StatusCode, stream.Header.Get("Content-Type"), first)
	}
	// A stream nobody will write to does not hold up a stop.
	w.agents.Close()
	if rest, err := io.ReadAll(stream.Body); err != nil || len(rest) != 0 {
		t.Errorf("after Close: %q, %v", rest, err)
	}
}

// hangsUp knows no deadlines, and ends the request when it has got something.
type hangsUp struct {
	*httptest.ResponseRecorder
	end context.CancelFunc
}

func (w hangsUp) Write(p []byte) (int, error) {
	defer w.end()
	return w.ResponseRecorder.Write(p)
}

// TestHTTP_WriterWithoutDeadlines checks that a writer that knows no deadlines
// is served all the same.
func TestHTTP_WriterWithoutDeadlines(t *testing.T) {
	w := newWorld(t, setup{})
	mux := http.NewServeMux()
	w.agents.Register(mux)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v2/workspaceagents/me/reinit", nil)
	r.Header.Set(wire.TokenHeader, w.token)
	rec := httptest.NewRecorder()
	mux.ServeHTTP(hangsUp{rec, cancel}, r)
	if rec.Body.String() != "event: ping\n\n" {
		t.Errorf("%q", rec.Body)
	}
}

func TestHTTP_TooManySessions(t *testing.T) {
	w := newWorld(t, setup{})
	first := w.dial()
	// Its answer shows that it began before the others.
	_, err := first.GetAnnouncementBanners(t.Context(), &agentpb.GetAnnouncementBannersRequest{})
	must(t, err)
	for range 16 {
		p := w.dial()
		_, err := p.GetAnnouncementBanners(t.Context(), &agentpb.GetAnnouncementBannersRequest{})
		must(t, err)
	}
	select {
	case <-first.Closed():
	case <-time.After(time.Minute):
		t.Fatal("the oldest session lives")
	}
	poll(t, "16 sessions", func() bool { return w.page()["worktally_agent_sessions"] == "16" })
	if n := w.count("worktally_agent_rejected_total", "reason", "too_many_sessions"); n != "1" {
		t.Errorf("counted %s", n)
	}
}
