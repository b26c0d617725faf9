package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
	"storj.io/drpc"

	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

// reporter is an agent that sends reports and does nothing else.
type reporter struct {
	t    *testing.T
	conn *wire.Client
	api  agentpb.DRPCAgentClient
}

// newReporter makes a workspace and opens the session of its agent.
func (w *world) newReporter(workspace string) *reporter {
	w.t.Helper()
	token := w.apply(workspace)
	ws, _, err := websocket.Dial(w.t.Context(), w.url.String()+"/api/v2/workspaceagents/me/rpc?version=2.6", &websocket.DialOptions{
		HTTPHeader: http.Header{"Cookie": {wire.TokenCookie + "=" + token}},
	})
	must(w.t, err)
	ws.SetReadLimit(-1)
	conn, err := wire.NewClient(websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
	must(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return &reporter{t: w.t, conn: conn, api: agentpb.NewDRPCAgentClient(conn)}
}

func (r *reporter) send(metrics ...*agentpb.Stats_Metric) {
	r.t.Helper()
	_, err := r.api.UpdateStats(r.t.Context(), &agentpb.UpdateStatsRequest{Stats: &agentpb.Stats{RxBytes: 1, ConnectionMedianLatencyMs: 1, Metrics: metrics}})
	must(r.t, err)
}

// raw is an encoding that takes bytes as they are: encoders refuse what is wrong.
type raw struct{}

func (raw) Marshal(m drpc.Message) ([]byte, error) { return m.([]byte), nil }
func (raw) Unmarshal([]byte, drpc.Message) error   { return nil }
func counter(name string, v float64, labels ...string) *agentpb.Stats_Metric {
	return metric(agentpb.Stats_Metric_COUNTER, name, v, labels)
}

func gauge(name string, v float64, labels ...string) *agentpb.Stats_Metric {
	return metric(agentpb.Stats_Metric_GAUGE, name, v, labels)
}

func metric(typ agentpb.Stats_Metric_Type, name string, v float64, labels []string) *agentpb.Stats_Metric {
	m := &agentpb.Stats_Metric{Name: name, Type: typ, Value: v}
	for i := 0; i < len(labels); i += 2 {
		m.Labels = append(m.Labels, &agentpb.Stats_Metric_Label{Name: labels[i], Value: labels[i+1]})
	}
	return m
}

// badReports is every row of contract metrics.md section 8, and more: what an agent
// sends, and for which reason how many of the series are not shown.
func badReports() []badReport {
	many := func(n int) (labels []string) {
		for i := range n {
			labels = append(labels, fmt.Sprintf("l%d", i), "x")
		}
		return labels
	}
	mib := strings.Repeat("x", 1<<20)
	duration := "agent_session_duration_seconds"
	return []badReport{
		{"the same name and labels twice", "duplicate", 1, list(counter("agent_a_total", 1, "x", "1"), counter("agent_a_total", 2, "x", "1"))},
		{"another type than somebody else's", "type_conflict", 1, list(gauge("agent_shared_total", 1))},
		{"another type than our own", "type_conflict", 1, list(gauge("agent_scripts_executed_total", 1, "success", "true"))},
		{"two types in one report", "type_conflict", 1, list(counter("agent_two_total", 1, "x", "1"), gauge("agent_two_total", 1, "x", "2"))},
		{"absent and empty labels", "duplicate", 1, list(counter("agent_b_total", 1, "a", "1"), counter("agent_b_total", 1, "a", "1", "b", ""))},
		{"a base label", "invalid_label", 4, list(counter("agent_c_total", 1, "username", "root"), counter("agent_c_total", 1, "agent_name", "x"),
			counter("agent_c_total", 1, "workspace_name", "x"), counter("agent_c_total", 1, "template_name", "x"))},
		{"dots and dashes", "invalid_name", 2, list(counter("agent.a", 1), counter("agent-a", 1))},
		{"an empty name", "invalid_name", 1, list(counter("", 1))},
		{"__name__", "invalid_label", 1, list(counter("agent_d_total", 1, "__name__", "up"))},
		{"NaN", "invalid_value", 2, list(counter("agent_e_total", math.NaN()), gauge("agent_e", math.NaN()))},
		{"infinity", "invalid_value", 2, list(counter("agent_f_total", math.Inf(1)), gauge("agent_f", math.Inf(-1)))},
		{"a negative counter", "invalid_value", 1, list(counter("agent_g_total", -1))},
		{"10,000 labels", "invalid_label", 1, list(counter("agent_h_total", 1, many(10_000)...))},
		{"a name of 1 MiB", "invalid_name", 1, list(counter("agent_"+mib, 1))},
		{"a label name of 1 MiB", "invalid_label", 1, list(counter("agent_i_total", 1, mib, "x"))},
		{"a value of 1 MiB", "invalid_label", 1, list(counter("agent_i_total", 1, "x", mib))},
		{"families of the server", "not_allowed", 5, list(gauge("coderd_agents_up", 1), counter("worktally_reports_total", 1), gauge("go_goroutines", 1),
			counter("promhttp_metric_handler_requests_total", 1), gauge("coderd_metrics_collector_agents_execution_seconds", 1))},
		{"the sum of nothing", "broken_histogram", 1, list(counter(duration+"_sum", 4, "family", "alone"))},
		{"a histogram that falls", "broken_histogram", 1, list(counter(duration+"_bucket", 4, "family", "falls", "le", "10.0"),
			counter(duration+"_bucket", 2, "family", "falls", "le", "+Inf"), counter(duration+"_count", 2, "family", "falls"))},
		{"a histogram as a gauge", "type_conflict", 2, list(gauge(duration, 1), gauge(duration+"_count", 1))},
		{"parts of a histogram that nobody knows", "invalid_label", 1, list(counter("agent_x_seconds_bucket", 1, "le", "+Inf"),
			counter("agent_x_seconds_sum", 1), counter("agent_x_seconds_count", 1))},
		{"a creation time", "invalid_name", 1, list(gauge("agent_y_created", 1))},
		{"nothing wrong: odd values", "", 0, list(counter("agent_odd_total", 1, "v", "quote \" backslash \\ newline \n tab \t é ω 𝛀 # {} = ,"), counter("agent_odd_total", 2, "v", `\n`),
			counter("agent_odd_total", 3, "v", `\`), counter("agent_odd_total", 4, "v", `"`), counter("agent_odd_total", 5, "v", " "))},
		{"nothing wrong: names that are nearly others", "", 0, list(gauge("agent_scripts_executed", 1), counter("agent_odd", 1), gauge("agent_odd_sum", 1), gauge("agent_odd_count", 1),
			gauge("agent_odd_bucket", 1), gauge("agent_odd_info", 1), counter("agent_session_duration_seconds_total", 1), gauge("agent_odd_gauge_total", 1))},
		{"nothing wrong: odd numbers", "", 0, list(gauge("agent_number", 1e308, "n", "1"), gauge("agent_number", -5e-324, "n", "2"), gauge("agent_number", 1<<53, "n", "3"),
			gauge("agent_number", math.Copysign(0, -1), "n", "4"), counter("agent_number_total", 1<<53))},
	}
}

type badReport struct {
	name, reason string
	refused      int
	metrics      []*agentpb.Stats_Metric
}

func list(m ...*agentpb.Stats_Metric) []*agentpb.Stats_Metric { return m }

// TestPage_NothingBreaksIt: whatever one agent sends, the page is answered 200 in
// every format, every parser reads it, what was refused is counted, and the good
// series are there, the same agent's and everybody else's.
func TestPage_NothingBreaksIt(t *testing.T) {
	// With so long an interval nobody's series end while the test runs.
	w := newWorld(t, Options{StatsInterval: time.Hour, Prometheus: Prometheus{Enable: true, Address: "127.0.0.1:0", CollectAgentStats: true}})
	bystander, villain := w.newReporter("bystander"), w.newReporter("villain")
	bystander.send(counter("agent_scripts_executed_total", 7, "success", "true"), counter("agent_shared_total", 3))
	good := counter("agent_scripts_executed_total", 5, "success", "true")
	for _, c := range badReports() {
		before := w.rejected(c.reason)
		villain.send(append([]*agentpb.Stats_Metric{good}, c.metrics...)...)
		if n := w.rejected(c.reason) - before; n < c.refused {
			t.Errorf("%s: %d series were refused for %s, want %d", c.name, n, c.reason, c.refused)
		}
		for _, format := range formats() {
			w.good(c.name, format)
		}
	}
	// What is no text does not even get through the protocol.
	err := villain.conn.Invoke(t.Context(), "/coder.agent.v2.Agent/UpdateStats", raw{}, notText(t), nil)
	if err == nil || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("a value that is no text: %v", err)
	}
	for _, format := range formats() {
		w.good("a value that is no text", format)
	}
	w.readByOthers()
}

// notText is a report with a label whose value is no text.
func notText(t *testing.T) []byte {
	b, err := proto.Marshal(&agentpb.UpdateStatsRequest{Stats: &agentpb.Stats{Metrics: list(counter("agent_z_total", 1, "x", "QQQQ"))}})
	must(t, err)
	return bytes.ReplaceAll(b, []byte("QQQQ"), []byte("\xff\xfe\xc0\x80"))
}

// formats are what scrapers ask for.
func formats() []string {
	return []string{"text/plain", "application/openmetrics-text;version=1.0.0", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"}
}

func (w *world) rejected(reason string) (n int) {
	w.t.Helper()
	for line := range strings.Lines(w.page()) {
		if rest, ok := strings.CutPrefix(line, `worktally_rejected_series_total{reason="`+reason+`"} `); ok {
			_, err := fmt.Sscan(rest, &n)
			must(w.t, err)
		}
	}
	return n
}

func (w *world) ask(path, accept string) (header http.Header, body []byte) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+w.server.PrometheusAddr()+path, nil)
	must(w.t, err)
	req.Header.Set("Accept", accept)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	must(w.t, err)
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	must(w.t, err)
	if resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %s: %s", path, resp.Status, body)
	}
	return resp.Header, body
}

// good checks that the page is whole and has the good series.
func (w *world) good(after, accept string) {
	w.t.Helper()
	header, body := w.ask("/metrics", accept)
	if strings.Contains(accept, "openmetrics") {
		if !bytes.HasSuffix(body, []byte("\n# EOF\n")) || bytes.Count(body, []byte("# EOF")) != 1 {
			w.t.Errorf("%s: the OpenMetrics page has no end", after)
		}
		return // Go has no parser of its own for it
	}
	found := make(map[string]float64)
	decoder := expfmt.NewDecoder(bytes.NewReader(body), expfmt.ResponseFormat(header))
	for {
		var mf dto.MetricFamily
		if err := decoder.Decode(&mf); err == io.EOF {
			break
		} else if err != nil {
			w.t.Fatalf("%s: %s: %v", after, accept, err)
		}
		for _, m := range mf.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			found[mf.GetName()+" "+labels["workspace_name"]+" "+labels["success"]] = m.GetCounter().GetValue()
		}
	}
	if found["agent_scripts_executed_total villain true"] != 5 || found["agent_scripts_executed_total bystander true"] != 7 || found["agent_shared_total bystander "] != 3 {
		w.t.Errorf("%s: %s: good series are missing", after, accept)
	}
}

func (w *world) readByOthers() {
	w.t.Run("promtool", func(t *testing.T) {
		_, text := w.ask("/metrics", formats()[0])
		out, _ := testtool.Output(t, text, testtool.Find(t, "promtool"), "check", "metrics")
		// The linter dislikes the agent's names; the parser may not fail.
		if strings.Contains(out, "error while linting") || strings.Contains(out, "parse") {
			t.Error(out)
		}
	})
	for i, name := range []string{"python text", "python openmetrics"} {
		w.t.Run(name, func(t *testing.T) {
			_, page := w.ask("/metrics", formats()[i])
			if complaint := testtool.ParseWithPython(t, page, i == 1); complaint != "" {
				t.Error(complaint)
			}
		})
	}
	w.t.Run("prometheus", func(t *testing.T) { scrapedByPrometheus(t, w.server.PrometheusAddr()) })
}

// TestPage_Parts: what a replica knows and what all say alike are the whole page,
// and nothing is in both.
func TestPage_Parts(t *testing.T) {
	w := newWorld(t, Options{Prometheus: Prometheus{Enable: true, Address: "127.0.0.1:0", CollectAgentStats: true}})
	w.newReporter("box").send(counter("agent_scripts_executed_total", 1, "success", "true"))
	families := func(path string) map[string]bool {
		m := make(map[string]bool)
		_, body := w.ask(path, "text/plain")
		for line := range strings.Lines(string(body)) {
			if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
				name, _, _ := strings.Cut(rest, " ")
				m[name] = true
			}
		}
		return m
	}
	whole, replica, deployment := families("/metrics"), families("/metrics/replica"), families("/metrics/deployment")
	if len(whole) != len(replica)+len(deployment) {
		t.Errorf("%d families are %d of the replica and %d of the deployment", len(whole), len(replica), len(deployment))
	}
	for name := range whole {
		if replica[name] == deployment[name] {
			t.Errorf("%s: of the replica %t, of the deployment %t", name, replica[name], deployment[name])
		}
	}
	for _, name := range []string{"go_goroutines", "process_open_fds", "promhttp_metric_handler_requests_total", "agent_scripts_executed_total", "coderd_agentstats_rx_bytes",
		"coderd_metrics_collector_agents_execution_seconds", "coderd_prometheusmetrics_agents_execution_seconds"} {
		if !replica[name] {
			t.Errorf("%s is not of the replica", name)
		}
	}
	for _, name := range []string{"coderd_agents_up", "coderd_agents_connections", "coderd_agents_apps", "worktally_workspace_bytes_total"} {
		if !deployment[name] {
			t.Errorf("%s is not of the deployment", name)
		}
	}
	for _, path := range []string{"/", "/anything/else"} {
		if n := len(families(path)); n != len(whole) {
			t.Errorf("%s has %d families, not %d", path, n, len(whole))
		}
	}
}
