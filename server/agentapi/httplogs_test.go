package agentapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

// send makes a request with a body and returns the status.
func (w *world) send(t *testing.T, method, path, token, body string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, w.url+"/api/v2/workspaceagents/me/"+path, strings.NewReader(body))
	must(t, err)
	r.Header.Set(wire.TokenHeader, token)
	resp, err := http.DefaultTransport.RoundTrip(r)
	must(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// TestHTTPLogs: contract agent-api.md section 3.2.
func TestHTTPLogs(t *testing.T) {
	w := newWorld(t, setup{})
	const source = "aaaaaaaa-0000-4000-8000-000000000000"
	long := strings.Repeat("x", 1<<20)
	// Not more than one byte too many: who does not read the rest may reset the connection.
	tooLong := `"` + long + long[:len(long)-1] + `"`
	for _, c := range []struct {
		name, method, path, token, body string
		status                          int
	}{
		{"no token", "PATCH", "logs", "", "{}", 401},
		{"no lines", "PATCH", "logs", w.token, "{}", 400},
		{"no JSON", "PATCH", "logs", w.token, "[", 400},
		{"no such level", "PATCH", "logs", w.token, `{"logs":[{"output":"x","level":"loud"}]}`, 400},
		{"too much", "PATCH", "logs", w.token, tooLong, 413},
		{"a source", "POST", "log-source", w.token, `{"id":"` + source + `","display_name":"Mine","icon":"/i.png"}`, 201},
		{"the same again", "POST", "log-source", w.token, `{"id":"` + source + `","display_name":"Ours","icon":"/i.png"}`, 201},
		{"a source without an id", "POST", "log-source", w.token, `{"display_name":"Mine"}`, 400},
		{"a source without a token", "POST", "log-source", "", `{}`, 401},
		{"a line", "PATCH", "logs", w.token, `{"log_source_id":"` + source + `","logs":[{"created_at":"2026-01-01T00:00:00Z","output":"one","level":"warn","more":1}]}`, 200},
		{"without a source", "PATCH", "logs", w.token, `{"logs":[{"output":"two"}]}`, 200},
		{"more than there is room for", "PATCH", "logs", w.token, `{"logs":[{"output":"` + long + `"}]}`, 413},
		{"after that", "PATCH", "logs", w.token, `{"logs":[{"output":"three"}]}`, 413},
	} {
		if got := w.send(t, c.method, c.path, c.token, c.body); got != c.status {
			t.Errorf("%s: %d, want %d", c.name, got, c.status)
		}
	}
	lines, err := w.catalog.Logs(t.Context(), w.agent.ID, 0, 10)
	must(t, err)
	if len(lines) != 2 || lines[0].Output != "one" || lines[0].Level != agentpb.Log_WARN || lines[0].SourceID.String() != source ||
		lines[1].Output != "two" || lines[1].Level != agentpb.Log_INFO || lines[1].SourceID.String() != "3b579bf4-1ed8-4b99-87a8-e9a1e3410410" {
		t.Errorf("lines: %+v", lines)
	}
	sources, err := w.catalog.LogSources(t.Context(), w.agent.ID)
	must(t, err)
	if len(sources) != 2 || sources[0].DisplayName != "Ours" || sources[1].DisplayName != "External" {
		t.Errorf("sources: %+v", sources)
	}
	full := 0
	for range 70 {
		if w.send(t, "POST", "log-source", w.token, `{"id":"`+uuid.NewString()+`"}`) == http.StatusConflict {
			full++
		}
	}
	if full != 70+2-64 {
		t.Errorf("%d of 70 sources were refused", full)
	}
}

func FuzzHTTPLogs(f *testing.F) {
	w := newWorld(f, setup{})
	f.Add(`{"logs":[{"output":"two","level":"info"}]}`)
	f.Add("{}")
	f.Fuzz(func(t *testing.T, text string) {
		for path, method := range map[string]string{"logs": "PATCH", "log-source": "POST"} {
			if status := w.send(t, method, path, w.token, text); status >= 500 {
				t.Fatalf("%s: %d", path, status)
			}
		}
	})
}
