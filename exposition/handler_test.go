package exposition

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func handle(t *testing.T, o HandlerOptions, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	r := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	NewHandler(o).ServeHTTP(rec, r)
	if rec.Code != 200 {
		t.Fatalf("%s: %d", target, rec.Code)
	}
	return rec
}

// TestHandler_Gzip has encoders, which are used again, serve at once.
func TestHandler_Gzip(t *testing.T) {
	page := samplePage(t)
	want := render(t, page, Text)
	h := NewHandler(HandlerOptions{Page: func() Page { return page }, Registry: prometheus.NewRegistry(), MaxScrapes: 100})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			r := httptest.NewRequest("GET", "/metrics", nil)
			r.Header.Set("Accept-Encoding", "zstd, gzip") // zstd is not offered
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			z, err := gzip.NewReader(rec.Body)
			if err != nil || rec.Header().Get("Content-Encoding") != "gzip" {
				t.Errorf("%v: %v", rec.Header(), err)
				return
			}
			if got, err := io.ReadAll(z); err != nil || !bytes.HasPrefix(got, want) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	all.Wait()
}

func TestHandler_Codings(t *testing.T) {
	page := samplePage(t)
	o := HandlerOptions{Page: func() Page { return page }, Codings: []Coding{{Name: "upper", New: func() Encoder { return &upper{} }}}}
	if rec := handle(t, o, "/", "Accept-Encoding", "gzip"); rec.Header().Get("Content-Encoding") != "" || !strings.Contains(rec.Body.String(), "# HELP") {
		t.Errorf("a coding that is not offered: %v", rec.Header())
	}
	rec := handle(t, o, "/", "Accept-Encoding", "upper")
	if rec.Header().Get("Content-Encoding") != "upper" || rec.Header().Get("Vary") != "Accept, Accept-Encoding" || !strings.HasSuffix(rec.Body.String(), "END") {
		t.Errorf("%v: ...%s", rec.Header(), rec.Body.String()[max(0, rec.Body.Len()-100):])
	}
}

// upper is a coding that one can read.
type upper struct{ w io.Writer }

func (u *upper) Reset(w io.Writer)           { u.w = w }
func (u *upper) Write(p []byte) (int, error) { return u.w.Write(bytes.ToUpper(p)) }
func (u *upper) Close() error                { _, err := io.WriteString(u.w, "END"); return err }

func TestHandler_PartsAndNames(t *testing.T) {
	page := samplePage(t)
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "library_things", Help: "Help."}))
	o := HandlerOptions{Page: func() Page { return page }, Registry: registry, Parts: true}
	has := func(target string, yes, no []string) {
		t.Helper()
		body := handle(t, o, target).Body.String()
		for _, name := range yes {
			if !strings.Contains(body, "\n# TYPE "+name+" ") {
				t.Errorf("%s has no %s", target, name)
			}
		}
		for _, name := range no {
			if strings.Contains(body, name) {
				t.Errorf("%s has %s", target, name)
			}
		}
	}
	replica := []string{"library_things", "agent_scripts_executed_total", "promhttp_metric_handler_requests_total"}
	deployment := []string{"coderd_agents_apps", "worktally_workspace_bytes_total"}
	both := append(append([]string(nil), replica...), deployment...)
	has("/metrics", both, nil)
	for _, path := range []string{"/any/path", "//metrics", "/metrics/../x", "/", "/-/other"} {
		has(path, both, nil)
	}
	has("/metrics/replica", replica, deployment)
	has("/metrics/deployment", deployment, replica)
	has("/metrics?name[]=library_things&name[]=coderd_agents_apps", []string{"library_things", "coderd_agents_apps"}, []string{"agent_scripts", "promhttp", "worktally"})
	o.Parts = false // an agent has no parts
	has("/metrics/deployment", both, nil)
}
