package exposition

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/worktally/worktally/internal/testtool"
)

var update = flag.Bool("update", false, "rewrite golden files")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// samplePage has two agents with awkward names, a histogram and the families of
// a process.
func samplePage(t *testing.T) Page {
	t.Helper()
	table := NewTable()
	page := Page{Table: table, Sides: AgentPage | ServerPage | ServerCollect}
	for i, n := range []Names{
		{AgentName: "main", Username: "owner", WorkspaceName: `quo"te\back` + "\nline", TemplateName: "go"},
		{AgentName: "main", Username: "other", WorkspaceName: "ω"},
	} {
		b := table.NewBuilder(n)
		must(t, b.Add("coderd_agentstats_rx_bytes", float64(i)))
		must(t, b.Add("agent_scripts_executed_total", 3, Label{"success", "true"}))
		must(t, b.Add("agent_scripts_executed_total", 0, Label{"success", "false"}))
		for _, bound := range []float64{28800, 600, 10, math.Inf(1)} {
			must(t, b.Add("agent_session_duration_seconds_bucket", 2, Label{"family", "ssh"}, Label{"le", FormatBound(bound)}))
		}
		must(t, b.Add("agent_session_duration_seconds_count", 2, Label{"family", "ssh"}))
		must(t, b.Add("agent_session_duration_seconds_sum", 2.5, Label{"family", "ssh"}))
		must(t, b.Add("coderd_agents_apps", 1, Label{"health", "healthy"}, Label{"app_name", ""}))
		page.Rows = append(page.Rows, b.Row())
	}
	b := table.NewBuilder(Names{})
	must(t, b.Add("worktally_workspace_bytes_total", 1<<40, Label{"direction", "receive"}, Label{"path", "tcp"}))
	page.Rows = append(page.Rows, b.Row())
	return page
}

func render(t *testing.T, p Page, f Format) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, p.Write(&b, f))
	return b.Bytes()
}

func TestPage_Golden(t *testing.T) {
	for f, file := range map[Format]string{Text: "testdata/page.txt.golden", OpenMetrics: "testdata/page.openmetrics.golden"} {
		got := render(t, samplePage(t), f)
		if *update {
			must(t, os.WriteFile(file, got, 0o644))
		}
		want, err := os.ReadFile(file)
		must(t, err)
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestPage_IsReadByOthers(t *testing.T) {
	page := samplePage(t)
	gathered, err := NewRuntimeRegistry().Gather()
	must(t, err)
	page.Gathered = gathered
	text, open := render(t, page, Text), render(t, page, OpenMetrics)
	t.Run("promtool", func(t *testing.T) {
		if c := testtool.Lint(t, text); c != "" {
			t.Error(c)
		}
	})
	t.Run("python text", func(t *testing.T) {
		if c := testtool.ParseWithPython(t, text, false); c != "" {
			t.Error(c)
		}
	})
	t.Run("python openmetrics", func(t *testing.T) {
		if c := testtool.ParseWithPython(t, open, true); c != "" {
			t.Error(c)
		}
	})
	t.Run("expfmt", func(t *testing.T) {
		p := expfmt.NewTextParser(model.LegacyValidation)
		families, err := p.TextToMetricFamilies(bytes.NewReader(text))
		must(t, err)
		if got := families["coderd_agentstats_rx_bytes"].GetMetric()[0].GetLabel()[2].GetValue(); got != `quo"te\back`+"\nline" {
			t.Errorf("the label came back as %q", got)
		}
		if families["go_memstats_lookups_total"] == nil || families["process_open_fds"] == nil {
			t.Error("families of libraries are missing")
		}
	})
}

func TestBuilder_RefusesWhatWouldBreakThePage(t *testing.T) {
	table := NewTable()
	b := table.NewBuilder(Names{AgentName: "a", Username: "u", WorkspaceName: "w"})
	must(t, b.Add("coderd_agentstats_rx_bytes", 1))
	for _, tc := range []struct {
		name string
		want error
		add  func() error
	}{
		{"twice", ErrDuplicate, func() error { return b.Add("coderd_agentstats_rx_bytes", 2) }},
		{"absent and empty labels are one series", ErrDuplicate, func() error { return b.Add("coderd_agentstats_rx_bytes", 2, Label{"x", ""}) }},
		{"unknown family", ErrUnknownFamily, func() error { return b.Add("up", 1) }},
		{"part of a gauge", ErrUnknownFamily, func() error { return b.Add("coderd_agentstats_rx_bytes_sum", 1) }},
		{"reserved label", ErrInvalidLabel, func() error { return b.Add("agent_open_sessions", 1, Label{"__name__", "x"}) }},
		{"identity label", ErrInvalidLabel, func() error { return b.Add("agent_open_sessions", 1, Label{"username", "x"}) }},
		{"label twice", ErrInvalidLabel, func() error { return b.Add("agent_open_sessions", 1, Label{"a", "x"}, Label{"a", "y"}) }},
		{"label that is no name", ErrInvalidLabel, func() error { return b.Add("agent_open_sessions", 1, Label{"a-b", "x"}) }},
		{"value that is no text", ErrInvalidLabel, func() error { return b.Add("agent_open_sessions", 1, Label{"a", "\xff"}) }},
		{"no identity", ErrNoIdentity, func() error { return table.NewBuilder(Names{}).Add("coderd_agentstats_rx_bytes", 1) }},
	} {
		if err := tc.add(); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestTable_ExtendKeepsOldRows(t *testing.T) {
	old := NewTable()
	b := old.NewBuilder(Names{AgentName: "a", Username: "u", WorkspaceName: "w"})
	must(t, b.Add("agent_report_window_seconds", 30))
	row := b.Row()
	table := old.Extend(Family{Name: "agent_new_total", Type: Counter, Help: "New.", Identity: AgentTemplate, Sides: ServerCollect})
	nb := table.NewBuilder(Names{AgentName: "b", Username: "u", WorkspaceName: "w"})
	must(t, nb.Add("agent_new_total", 7))
	page := string(render(t, Page{Table: table, Sides: ServerCollect, Rows: []*Row{row, nb.Row()}}, Text))
	for _, line := range []string{
		`agent_report_window_seconds{agent_name="a",username="u",workspace_name="w"} 30`,
		`agent_new_total{agent_name="b",username="u",workspace_name="w"} 7`,
	} {
		if !strings.Contains(page, line) {
			t.Errorf("%s is missing", line)
		}
	}
}

func TestHandler_EveryPathAnswers(t *testing.T) {
	page := samplePage(t)
	ready := false
	server := httptest.NewServer(NewHandler(HandlerOptions{
		Page: func() Page { return page }, Registry: NewRuntimeRegistry(), Ready: func() bool { return ready },
	}))
	defer server.Close()
	get := func(path string, header ...string) (int, http.Header, string) {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, server.URL+path, nil)
		must(t, err)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		must(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, resp.Header, string(body)
	}
	for _, path := range []string{"/", "/metrics", "/any/thing"} {
		status, header, body := get(path)
		if status != 200 || header.Get("Content-Type") != Text.ContentType() || !strings.Contains(body, "promhttp_metric_handler_requests_in_flight 1") {
			t.Errorf("%s: %d %v", path, status, header)
		}
	}
	if _, header, body := get("/metrics", "Accept", "application/openmetrics-text; version=1.0.0"); header.Get("Content-Type") != OpenMetrics.ContentType() || !strings.HasSuffix(body, "# EOF\n") {
		t.Errorf("openmetrics: %v", header)
	}
	if status, _, body := get("/-/ready"); status != 503 || body != "not ready\n" {
		t.Errorf("ready: %d %q", status, body)
	}
	ready = true
	if status, _, _ := get("/-/ready"); status != 200 {
		t.Errorf("ready: %d", status)
	}
	if status, _, _ := get("/-/healthy"); status != 200 {
		t.Errorf("healthy: %d", status)
	}
	resp, err := http.Post(server.URL+"/metrics", "text/plain", nil)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.StatusCode)
	}
}

// TestHouse_HelpIsOneSentence keeps the table readable.
func TestHouse_HelpIsOneSentence(t *testing.T) {
	for _, f := range NewTable().Families() {
		if !strings.HasSuffix(f.Help, ".") || strings.ContainsAny(f.Help, "\n\"\\") || f.Sides == 0 || !ValidMetricName(f.Name) {
			t.Errorf("%s: %q", f.Name, f.Help)
		}
		if f.Type == Counter && !strings.HasSuffix(f.Name, "_total") {
			t.Errorf("%s: a counter ends in _total", f.Name)
		}
	}
}

// FuzzPage: whatever an agent puts into labels, the page stays readable.
func FuzzPage(f *testing.F) {
	f.Add("success", "tr\"ue\n\\", "name", 1.5)
	f.Fuzz(func(t *testing.T, label, value, workspace string, v float64) {
		table := NewTable()
		b := table.NewBuilder(Names{AgentName: "a", Username: "u", WorkspaceName: strings.ToValidUTF8(workspace, "?")})
		err := b.Add("agent_scripts_executed_total", v, Label{label, value})
		page := Page{Table: table, Sides: AgentPage, Rows: []*Row{b.Row()}}
		p := expfmt.NewTextParser(model.LegacyValidation)
		families, parseErr := p.TextToMetricFamilies(bytes.NewReader(render(t, page, Text)))
		if parseErr != nil {
			t.Fatalf("label %q value %q (%v): %v", label, value, err, parseErr)
		}
		if err == nil && parseErr == nil && families["agent_scripts_executed_total"] == nil {
			t.Fatal("the sample is missing")
		}
	})
}
