package agentapps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/wire/agentpb"
)

func TestJudge(t *testing.T) {
	const (
		initial = agentpb.AppHealth_INITIALIZING
		healthy = agentpb.AppHealth_HEALTHY
		sick    = agentpb.AppHealth_UNHEALTHY
	)
	tests := []struct {
		name      string
		threshold int32
		probes    string // "+" well, "-" not
		want      []agentpb.AppHealth
	}{
		{"one success is enough", 3, "+", []agentpb.AppHealth{healthy}},
		{"threshold and one more failures", 2, "---", []agentpb.AppHealth{initial, initial, sick}},
		{"a success starts the count anew", 2, "--+---", []agentpb.AppHealth{initial, initial, healthy, healthy, healthy, sick}},
		{"sick until a success", 1, "---+", []agentpb.AppHealth{initial, sick, sick, healthy}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			health, failures := initial, int32(0)
			for i, p := range tt.probes {
				health, failures = judge(health, failures, tt.threshold, p == '+')
				if health != tt.want[i] {
					t.Errorf("after %q: %v, want %v", tt.probes[:i+1], health, tt.want[i])
				}
			}
		})
	}
}

// answers is a transport whose apps answer as told.
type answers struct {
	well   atomic.Bool
	probes atomic.Int32
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	a.probes.Add(1)
	if !a.well.Load() {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: 404, Body: io.NopCloser(strings.NewReader("no")), Request: r}, nil
}

func webApp(id uuid.UUID, interval time.Duration, threshold int32) *agentpb.WorkspaceApp {
	return &agentpb.WorkspaceApp{
		Id: id[:], Slug: "web", Health: agentpb.WorkspaceApp_INITIALIZING,
		Healthcheck: &agentpb.WorkspaceApp_Healthcheck{
			Url: "http://app.test/", Interval: durationpb.New(interval), Threshold: threshold,
		},
	}
}

// TestHealth_AsRecorded replays what the recorded session tells: the same app
// goes down and comes up, and the same two messages leave.
func TestHealth_AsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		manifest := recorded(t, "003-GetManifest-response", &agentpb.Manifest{})
		app := &answers{}
		h := NewHealth(HealthOptions{Transport: app})
		h.Update(manifest.GetApps())
		s := &server{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.Run(ctx, s) }()
		time.Sleep(time.Minute)
		app.well.Store(true)
		time.Sleep(time.Minute)
		cancel()
		<-done
		want := []*agentpb.BatchUpdateAppHealthRequest{
			recorded(t, "023-BatchUpdateAppHealths-request", &agentpb.BatchUpdateAppHealthRequest{}),
			recorded(t, "029-BatchUpdateAppHealths-request", &agentpb.BatchUpdateAppHealthRequest{}),
		}
		if d := diff(want, s.healthReports()); d != "" {
			t.Errorf("reports (-want +got):\n%s", d)
		}
	})
}

func TestHealth_ThresholdAndReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := &answers{}
		log, text := newLog()
		h := NewHealth(HealthOptions{Transport: app, Log: log})
		a, b := uuid.New(), uuid.New()
		quiet := webApp(b, 0, 3) // tracked, never probed
		quiet.Health = agentpb.WorkspaceApp_HEALTHY
		off := webApp(uuid.New(), time.Second, 1)
		off.Health = agentpb.WorkspaceApp_DISABLED
		noID := webApp(uuid.New(), time.Second, 1)
		noID.Id = []byte("short")
		h.Update([]*agentpb.WorkspaceApp{webApp(a, 10*time.Second+900*time.Millisecond, 2), quiet, off, noID, nil, webApp(a, time.Second, 1)})
		s := &server{err: errTest}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.Run(ctx, s) }()

		time.Sleep(29500 * time.Millisecond) // two probes
		if n, r := app.probes.Load(), s.healthReports(); n != 2 || len(r) != 0 {
			t.Errorf("after 29.5 s: %d probes, reports %v", n, r)
		}
		time.Sleep(5 * time.Second) // the third, and five refused reports
		want := &agentpb.BatchUpdateAppHealthRequest{Updates: []*agentpb.BatchUpdateAppHealthRequest_HealthUpdate{
			{Id: a[:], Health: agentpb.AppHealth_UNHEALTHY}, {Id: b[:], Health: agentpb.AppHealth_HEALTHY},
		}}
		refused := s.healthReports()
		if len(refused) < 4 {
			t.Fatalf("%d reports were tried", len(refused))
		}
		if d := diff(want, refused[0]); d != "" {
			t.Errorf("report (-want +got):\n%s", d)
		}
		if got := strings.Count(text.String(), "failed: report app health"); got != 1 {
			t.Errorf("the failures were logged %d times", got)
		}
		cancel()
		<-done

		// The next session tells what the last one could not, without a new probe.
		s.fail(nil)
		ctx, cancel = context.WithCancel(t.Context())
		h.Update([]*agentpb.WorkspaceApp{webApp(a, 10*time.Second, 2)})
		done = make(chan struct{})
		go func() { defer close(done); h.Run(ctx, s) }()
		time.Sleep(5 * time.Second)
		got := s.healthReports()[len(refused):]
		if d := diff([]*agentpb.BatchUpdateAppHealthRequest{{Updates: want.Updates[:1]}}, got); d != "" {
			t.Errorf("reports of the second session (-want +got):\n%s", d)
		}
		cancel()
		<-done
		// The next session probes what its manifest says.
		ctx, cancel = context.WithCancel(t.Context())
		h.Update([]*agentpb.WorkspaceApp{webApp(a, time.Second, 2)})
		app.well.Store(true)
		done = make(chan struct{})
		go func() { defer close(done); h.Run(ctx, s) }()
		time.Sleep(2500 * time.Millisecond)
		if r := s.healthReports(); r[len(r)-1].Updates[0].Health != agentpb.AppHealth_HEALTHY {
			t.Errorf("last report %v", r[len(r)-1])
		}
		cancel()
		<-done
	})
}

// TestRun_NothingToDo: an agent without apps and metadata has no goroutine for them.
func TestRun_NothingToDo(t *testing.T) {
	NewHealth(HealthOptions{}).Run(t.Context(), &server{})
	m, err := NewMetadata(MetadataOptions{Commands: shell(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Run(t.Context(), &server{}); err != nil {
		t.Error(err)
	}
}

func TestAsk(t *testing.T) {
	mux := http.NewServeMux()
	for _, code := range []int{200, 404, 499, 500, 503} {
		mux.HandleFunc(fmt.Sprintf("/%d", code), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	release := make(chan struct{})
	mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/circle", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/circle", http.StatusFound) })
	ts := httptest.NewServer(mux)
	defer ts.Close()
	defer close(release)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for path, well := range map[string]bool{
		"/200": true, "/404": true, "/499": true, "/500": false, "/503": false, "/endless": true, "/circle": false,
	} {
		if err := ask(t.Context(), client, ts.URL+path, 10*time.Second); (err == nil) != well {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := ask(t.Context(), client, ts.URL+"/silent", 50*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent app: %v", err)
	}
	if err := ask(t.Context(), client, "http://bad host/", time.Second); err == nil {
		t.Error("a URL that is none was requested")
	}
}

func TestHealth_RunClosesItsConnections(t *testing.T) {
	probed := make(chan struct{}, 10)
	ts := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { probed <- struct{}{} }))
	defer ts.Close()
	h := NewHealth(HealthOptions{})
	app := webApp(uuid.New(), time.Second, 1)
	app.Healthcheck.Url = ts.URL
	h.Update([]*agentpb.WorkspaceApp{app})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx, &server{}) }()
	<-probed
	cancel()
	<-done // goleak finds what stays
}
