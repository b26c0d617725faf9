package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/wire"
)

// controlPlane is a server with a metrics page, and what a control plane asks of it.
type controlPlane struct {
	t      *testing.T
	o      Options
	server *Server
	token  string
	stop   func()
}

func newControlPlane(t *testing.T, p Prometheus) *controlPlane {
	t.Helper()
	return newControlPlaneOf(t, Options{Prometheus: p})
}

// newControlPlaneOf is newControlPlane for a server with these options.
func newControlPlaneOf(t *testing.T, o Options) *controlPlane {
	t.Helper()
	var first strings.Builder
	o.Prometheus.Enable, o.Prometheus.Address = true, "127.0.0.1:0"
	o.StateDir, o.HTTPAddress, o.FirstToken = t.TempDir(), "127.0.0.1:0", &first
	c := &controlPlane{t: t, o: o}
	c.start()
	lines := strings.Split(strings.TrimSpace(first.String()), "\n")
	c.token = lines[len(lines)-1]
	return c
}

func (c *controlPlane) start() {
	c.t.Helper()
	s, err := New(c.t.Context(), c.o)
	must(c.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	c.server = s
	c.stop = sync.OnceFunc(func() {
		cancel()
		must(c.t, <-ended)
		http.DefaultClient.CloseIdleConnections()
	})
	c.t.Cleanup(c.stop)
}

func (c *controlPlane) send(method, path, body string) string {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.server.HTTPAddr()+"/api/worktally/v1/"+path, strings.NewReader(body))
	must(c.t, err)
	req.Header.Set(wire.TokenHeader, c.token)
	return c.ask(req)
}

func (c *controlPlane) ask(req *http.Request) string {
	c.t.Helper()
	res, err := http.DefaultClient.Do(req)
	must(c.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(c.t, err)
	if res.StatusCode >= 300 {
		c.t.Fatalf("%s %s: %s %s", req.Method, req.URL, res.Status, text)
	}
	return string(text)
}

func (c *controlPlane) page() string {
	c.t.Helper()
	return c.pageAs(false)
}

func (c *controlPlane) pageAs(openMetrics bool) string {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://"+c.server.PrometheusAddr()+"/metrics", nil)
	must(c.t, err)
	if openMetrics {
		req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	}
	return c.ask(req)
}

// ours are the families that come from events.
var ours = regexp.MustCompile(`(?m)^(coderd_(api_workspace_latest|workspace_|provisionerd_|insights_parameters)|worktally_builds)\S* .*$`)

// TestServer_ControlPlaneEvents: events over HTTP are on the page within a second, and
// still there, no more and no less, after a restart.
func TestServer_ControlPlaneEvents(t *testing.T) {
	c := newControlPlane(t, Prometheus{})
	template, version, build, job := uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString()
	c.send("PUT", "templates/"+template, `{"name":"go"}`)
	c.send("PUT", "templateversions/"+version, `{"template_id":"`+template+`","name":"v3","parameters":[{"name":"region","type":"string","safe":true}]}`)
	workspace := uuid.NewString()
	c.send("POST", "import", `{"workspace":{"id":"`+workspace+`","owner":"admin","name":"dev","template":{"name":"go"}}}`)
	began := time.Now().Add(-90 * time.Second).UTC().Format(time.RFC3339)
	running := `{"workspace_id":"` + workspace + `","transition":"start","template":{"version":"v3"},"provisioner":"terraform","status":"running","started_at":"` + began + `","parameters":{"region":"eu"}}`
	c.send("PUT", "builds/"+build, running)
	within(t, "the running build", func() bool {
		return strings.Contains(c.page(), `coderd_workspace_latest_build_status{status="running",template_name="go",template_version="v3",workspace_owner="admin",workspace_transition="start"} 1`)
	})
	for range 3 {
		c.send("PUT", "builds/"+build, `{"status":"succeeded"}`)
		c.send("PUT", "builds/"+build, running)
		c.send("PUT", "jobs/"+job, `{"provisioner":"terraform","status":"failed","started_at":"`+began+`"}`)
	}
	const counted = `coderd_workspace_builds_total{action="START",owner_email="admin",status="success",template_name="go",template_version="v3",workspace_name="dev",workspace_owner="admin",workspace_transition="START"} 1`
	within(t, "the build that ended", func() bool { return strings.Contains(c.page(), counted+"\n") })
	within(t, "the job that ended", func() bool {
		return strings.Contains(c.page(), `coderd_provisionerd_job_timings_seconds_bucket{le="300.0",provisioner="terraform",status="failed"} 1`)
	})
	if complaints := testtool.Lint(t, []byte(c.page())); complaints != "" {
		t.Errorf("promtool: %s", complaints)
	}
	for _, openMetrics := range []bool{false, true} {
		if complaint := testtool.ParseWithPython(t, []byte(c.pageAs(openMetrics)), openMetrics); complaint != "" {
			t.Errorf("parsed as OpenMetrics %t: %s", openMetrics, complaint)
		}
	}
	counts := func() []string { // parameters are looked at once a minute, and at the start
		return slices.DeleteFunc(ours.FindAllString(c.page(), -1), func(l string) bool { return strings.HasPrefix(l, "coderd_insights_parameters") })
	}
	before := counts()
	c.stop()
	c.start()
	after := counts()
	if fmt.Sprint(before) != fmt.Sprint(after) || len(before) < 40 {
		t.Errorf("before the restart:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	if page := c.page(); !strings.Contains(page, `coderd_insights_parameters{parameter_name="region",parameter_type="string",parameter_value="eu",template_name="go"} 1`) {
		t.Error("no parameter is shown after the restart")
	}
	c.send("DELETE", "workspaces/"+workspace, "")
	within(t, "the deletion", func() bool {
		page := c.page()
		return !strings.Contains(page, "coderd_workspace_latest_build_status{") && strings.Contains(page, counted+"\n")
	})
}

// within waits for what has to be on the page within a second. The bound leaves room for
// a machine that is busy, and is less than the minute after which all is read anyway.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	began := time.Now()
	poll(t, what, ok)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("%s was on the page after %s", what, took)
	}
}

// TestServer_DeprecatedFamilies: they are there unless one does not want them.
func TestServer_DeprecatedFamilies(t *testing.T) {
	for hide, want := range map[bool]int{false: 6, true: 0} {
		c := newControlPlane(t, Prometheus{HideDeprecated: hide, Labels: exposition.LabelsSeed})
		page := c.page()
		if n := strings.Count(page, "\ncoderd_api_workspace_latest_build_total{"); n != want || strings.Contains(page, "TYPE coderd_api_workspace_latest_build_total ") == hide {
			t.Errorf("hidden %t: %d series", hide, n)
		}
		c.stop()
	}
}
