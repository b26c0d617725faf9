package controlapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// TestLimits_SessionsOfOnePerson: one more than there may be is refused for good
// and counted.
func TestLimits_SessionsOfOnePerson(t *testing.T) {
	f := newFixture(t)
	path := f.demo().Agents[0].ID.String() + "/coordinate?version=2.0"
	base := f.serve()
	ann, err := f.handler.o.Catalog.UserByToken(t.Context(), f.ann)
	must(t, err)
	for range maxSessions {
		s := &session{user: ann}
		must(t, f.handler.sessions.add(s))
		defer f.handler.sessions.remove(s)
	}
	if c, resp := f.dialCoordinate(base, f.ann, path); c != nil || resp.StatusCode != http.StatusConflict {
		t.Errorf("one more: status %d", resp.StatusCode)
	}
	if n := gathered(t, f, "worktally_client_sessions_refused_total"); n != 1 {
		t.Errorf("%v counted, want 1", n)
	}
}

// TestLimits_MessageTooLarge: one call of a client ends, and is counted.
func TestLimits_MessageTooLarge(t *testing.T) {
	f := newFixture(t)
	c, _ := f.dialCoordinate(f.serve(), f.ann, f.demo().Agents[0].ID.String()+"/coordinate?version=2.0")
	api := tailnetpb.NewDRPCTailnetClient(c)
	large := &tailnetpb.TelemetryRequest{Events: []*tailnetpb.TelemetryEvent{{Application: strings.Repeat("x", wire.MaxMessage+1<<16)}}}
	if _, err := api.PostTelemetry(t.Context(), large); err == nil {
		t.Error("it was taken")
	}
	poll(t, "the count", func() bool { return gathered(t, f, "worktally_client_calls_broken_total") == 1 })
	if _, err := api.PostTelemetry(t.Context(), &tailnetpb.TelemetryRequest{}); err != nil {
		t.Errorf("the session afterwards: %v", err)
	}
}

// TestLimits_Body: a body that is too large is not read.
func TestLimits_Body(t *testing.T) {
	f := newFixture(t)
	r, err := http.NewRequestWithContext(t.Context(), "POST", f.serve()+"/api/worktally/v1/workspaces", strings.NewReader(strings.Repeat("x", maxBody+1)))
	must(t, err)
	r.Header.Set(wire.TokenHeader, f.ann)
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// dated knows until when an answer must be read.
type dated struct {
	*httptest.ResponseRecorder
	by time.Time
}

func (d *dated) SetWriteDeadline(by time.Time) error {
	d.by = by
	return nil
}

// TestLimits_DocumentThatIsNotRead: who needs no token does not stay by reading
// nothing.
func TestLimits_DocumentThatIsNotRead(t *testing.T) {
	f := newFixture(t)
	w := &dated{ResponseRecorder: httptest.NewRecorder()}
	f.handler.ServeHTTP(w, httptest.NewRequest("GET", "/api/worktally/v1/openapi.json", nil))
	if w.Code != http.StatusOK || w.by.IsZero() || w.by.After(time.Now().Add(documentTimeout)) {
		t.Errorf("status %d, to be read by %v", w.Code, w.by)
	}
}
