//go:build unix

package agent

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
	"github.com/worktally/worktally/wire/worktallypb"
)

func seedNames() []string {
	return []string{
		"coderd_agentstats_connection_count", "coderd_agentstats_connection_median_latency_seconds",
		"coderd_agentstats_currently_reachable_peers", "coderd_agentstats_rx_bytes", "coderd_agentstats_tx_bytes",
		"coderd_agentstats_session_count_jetbrains", "coderd_agentstats_session_count_reconnecting_pty",
		"coderd_agentstats_session_count_ssh", "coderd_agentstats_session_count_vscode",
		"coderd_agentstats_startup_script_seconds", "agent_scripts_executed_total",
	}
}

func sampleLines(page, name string) []string {
	var lines []string
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, name+" ") || strings.HasPrefix(line, name+"{") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// TestPage_BeforeTheIdentity: HELP and TYPE of all eleven, and no sample of them.
func TestPage_BeforeTheIdentity(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{})
	a := newAgent(t, s, nil)
	page := scrape(t, a.MetricsHandler())
	for _, name := range seedNames() {
		if !strings.Contains(page, "# HELP "+name+" ") || !strings.Contains(page, "# TYPE "+name+" ") {
			t.Errorf("%s is not announced", name)
		}
		if lines := sampleLines(page, name); len(lines) != 0 {
			t.Errorf("before the identity is known: %q", lines)
		}
	}
	for _, name := range []string{"agent_build_info", "agent_connected", "agent_dial_errors_total", "go_goroutines", "process_open_fds", "go_memstats_lookups_total"} {
		if len(sampleLines(page, name)) != 1 {
			t.Errorf("%s is missing", name)
		}
	}
	if w := httptest.NewRecorder(); true {
		a.MetricsHandler().ServeHTTP(w, httptest.NewRequest("GET", "/-/ready", nil))
		if w.Code != 503 {
			t.Errorf("ready: %d", w.Code)
		}
	}
}

// TestPage_AfterTheIdentity: eight of the ten have samples at once, zeros
// included, under the labels of the contract; the page is read by others.
func TestPage_AfterTheIdentity(t *testing.T) {
	m := wiretest.NewManifest()
	m.Worktally = &worktallypb.ManifestExtension{TemplateName: "go-dev"}
	hold := filepath.Join(t.TempDir(), "hold")
	wiretest.AddScript(m, "while [ ! -e "+hold+" ]; do sleep 0.02; done", func(s *agentpb.WorkspaceAgentScript) { s.RunOnStart = true })
	s := wiretest.Start(t, wiretest.Options{Manifest: m})
	var dial func() (*ssh.Client, error)
	a := run(t, s, func(o *Options) { dial, _ = withSSH(t, o) })
	s.WaitCalls(t, "UpdateLifecycle", 1)
	handler := a.MetricsHandler()
	const id = `agent_name="main",username="owner",workspace_name="workspace"`
	got := samples(t, scrape(t, handler))
	for _, name := range seedNames() {
		labels := []string{"{" + id + "}"}
		switch name {
		case "coderd_agentstats_connection_median_latency_seconds", "coderd_agentstats_startup_script_seconds":
			if lines := sampleLines(scrape(t, handler), name); len(lines) != 0 {
				t.Errorf("a number that nobody knows: %q", lines)
			}
			continue
		case "coderd_agentstats_currently_reachable_peers":
			labels = []string{labelled(id, "connection_type", "derp"), labelled(id, "connection_type", "p2p")}
		case "agent_scripts_executed_total":
			labels = []string{labelled(id, "success", "false"), labelled(id, "success", "true")}
		}
		for _, l := range labels {
			if v, ok := got[strings.ReplaceAll(name+l, `",`, `", `)]; !ok || v != 0 {
				t.Errorf("%s%s = %v, %v", name, l, v, ok)
			}
		}
	}
	client := mustDial(t, dial)
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("sleep 600"); err != nil {
		t.Fatal(err)
	}
	count := `coderd_agentstats_session_count_ssh{` + strings.ReplaceAll(id, `",`, `", `) + `}`
	eventually(t, "the session on the page", func() bool { return samples(t, scrape(t, handler))[count] == 1 })
	if err := os.WriteFile(hold, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the duration of the start phase", func() bool {
		return len(sampleLines(scrape(t, handler), "coderd_agentstats_startup_script_seconds")) == 1
	})
	page := scrape(t, handler)
	for _, name := range []string{"coderd_agentstats_startup_script_seconds", "agent_sessions_total"} {
		if lines := sampleLines(page, name); len(lines) == 0 || !strings.Contains(lines[0], `template_name="go-dev"`) {
			t.Errorf("%s: %q", name, lines)
		}
	}
	checkReaders(t, page)
	_ = client.Close()
	eventually(t, "the end of the session on the page", func() bool { return samples(t, scrape(t, handler))[count] == 0 })
}

func labelled(id, name, value string) string {
	labels := append(strings.Split(id, ","), name+`="`+value+`"`, `template_name="go-dev"`)
	slices.Sort(labels)
	return "{" + strings.Join(labels, ",") + "}"
}

// checkReaders lets other programs read a page. The complaints that the
// contract's own names cause are those of the exposition's test.
func checkReaders(t *testing.T, page string) {
	t.Helper()
	out, _ := testtool.Output(t, []byte(page), testtool.Find(t, "promtool"), "check", "metrics")
	for line := range strings.Lines(out) {
		known := strings.Contains(line, "coderd_agentstats_connection_count") || strings.Contains(line, "go_memstats_lookups_total")
		if strings.TrimSpace(line) != "" && !known {
			t.Errorf("promtool: %s", line)
		}
	}
	if c := testtool.ParseWithPython(t, []byte(page), false); c != "" {
		t.Errorf("python: %s", c)
	}
}

// TestPage_TemplateName: its sources in their order; unknown is left out.
func TestPage_TemplateName(t *testing.T) {
	for _, tc := range []struct{ extension, manifest, process, want string }{
		{"a", "b", "c", "a"}, {"", "b", "c", "b"}, {"", "", "c", "c"}, {"", "", "", ""},
	} {
		m := wiretest.NewManifest()
		m.Worktally = &worktallypb.ManifestExtension{TemplateName: tc.extension}
		m.EnvironmentVariables = map[string]string{templateVariable: tc.manifest}
		s := wiretest.Start(t, wiretest.Options{Manifest: m})
		a := newAgent(t, s, func(o *Options) { o.Environ = func() []string { return []string{templateVariable + "=" + tc.process} } })
		id := a.identityOf(m)
		a.setIdentity(t.Context(), id)
		line := sampleLines(scrape(t, a.MetricsHandler()), "agent_sessions_opened_total")[0]
		if want := `template_name="` + tc.want + `"`; id.TemplateName != tc.want || strings.Contains(line, "template_name") != (tc.want != "") || tc.want != "" && !strings.Contains(line, want) {
			t.Errorf("%+v: %s", tc, line)
		}
	}
}

// TestPage_ManifestWithoutNames breaks nothing.
func TestPage_ManifestWithoutNames(t *testing.T) {
	m := wiretest.NewManifest()
	m.AgentName, m.OwnerUsername, m.WorkspaceName = "", "", ""
	s := wiretest.Start(t, wiretest.Options{Manifest: m})
	a := run(t, s, nil)
	s.WaitCalls(t, "UpdateLifecycle", 2)
	if lines := sampleLines(scrape(t, a.MetricsHandler()), "agent_connected"); len(lines) != 1 {
		t.Errorf("the page is broken: %q", lines)
	}
}

// TestPage_StrangeTotals: what was read from the disk may be another version's, or
// nobody's; the page goes on without it.
func TestPage_StrangeTotals(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{})
	a := newAgent(t, s, nil)
	a.setIdentity(t.Context(), a.identityOf(wiretest.NewManifest()))
	scripts := func(labels ...stats.Label) stats.Series {
		return stats.Series{Name: "agent_scripts_executed_total", Labels: labels, Value: 7}
	}
	a.tally.Restore([]stats.Series{
		scripts(stats.Label{Name: "success", Value: "true"}), scripts(stats.Label{Name: "a b", Value: "x"}), scripts(stats.Label{Name: "agent_name", Value: "x"}),
		scripts(stats.Label{Name: "x", Value: "1"}, stats.Label{Name: "x", Value: "2"}), {Name: "agent_of_tomorrow_total", Value: 7},
	})
	lines := sampleLines(scrape(t, a.MetricsHandler()), "agent_scripts_executed_total")
	if len(lines) != 2 || !strings.HasSuffix(lines[1], `success="true"} 7`) {
		t.Errorf("got %q", lines)
	}
}

// TestTwoAgents in one process do not know of each other; a registry of one's own
// gets both, told apart by a label, and is left as it was.
func TestTwoAgents(t *testing.T) {
	registry := prometheus.NewRegistry()
	type pair struct {
		s *wiretest.Server
		a *running
	}
	var pairs []pair
	for _, name := range []string{"one", "two"} {
		m := wiretest.NewManifest()
		m.AgentName = name
		wiretest.AddScript(m, "true", func(s *agentpb.WorkspaceAgentScript) { s.RunOnStart = true })
		if name == "two" {
			wiretest.AddScript(m, "false", func(s *agentpb.WorkspaceAgentScript) { s.RunOnStart = true })
		}
		s := wiretest.Start(t, wiretest.Options{Manifest: m})
		pairs = append(pairs, pair{s, run(t, s, func(o *Options) {
			o.Registerer = prometheus.WrapRegistererWith(prometheus.Labels{"place": name}, registry)
		})})
	}
	for _, p := range pairs {
		p.s.WaitCalls(t, "UpdateLifecycle", 2)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	failures := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "agent_scripts_executed_total" && labels["success"] == "false" {
				if labels["agent_name"] != labels["place"] {
					t.Errorf("labels %v", labels)
				}
				failures[labels["place"]] = m.GetCounter().GetValue()
			}
		}
	}
	if len(failures) != 2 || failures["one"] != 0 || failures["two"] != 1 {
		t.Errorf("failed scripts by agent: %v", failures)
	}
	for _, p := range pairs {
		if err := p.a.stop(); err != nil {
			t.Error(err)
		}
	}
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("%d families are left, %v", len(families), err)
	}
}

// TestRun_RegistererRefuses: one clear error, and every listener is closed.
func TestRun_RegistererRefuses(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{})
	a := newAgent(t, s, func(o *Options) {
		o.Registerer, o.MetricsListener, o.PTYListener = refusing{}, listen(t), listenUnix(t)
	})
	if err := a.Run(t.Context()); err == nil || err.Error() != "register metrics: no" {
		t.Errorf("Run = %v", err)
	}
	if a.o.MetricsListener.Close() == nil || a.o.PTYListener.Close() == nil {
		t.Error("a listener is open")
	}
}

type refusing struct{ prometheus.Registerer }

func (refusing) Register(prometheus.Collector) error { return errors.New("no") }
