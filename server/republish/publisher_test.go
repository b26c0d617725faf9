package republish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

func TestMain(m *testing.M) { testtool.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// store stands for the catalog and the ledger: what it holds is what they tell.
type store struct {
	mu       sync.Mutex
	statuses []catalog.AgentStatus
	latest   []ledger.Latest
	totals   []*worktallypb.Series
	err      error
	reads    int
	loads    int // of one agent
}

func (s *store) AgentStatuses(_ context.Context, fn func(catalog.AgentStatus) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	for _, a := range s.statuses {
		if err := fn(a); err != nil {
			return err
		}
	}
	return s.err
}

func (s *store) Load(_ context.Context, fn func(ledger.Latest) error) error {
	for _, l := range s.latest {
		if err := fn(l); err != nil {
			return err
		}
	}
	return s.err
}

func (s *store) LoadOne(_ context.Context, workspaceID uuid.UUID, agentName string) (ledger.Latest, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	i := slices.IndexFunc(s.latest, func(l ledger.Latest) bool { return l.WorkspaceID == workspaceID && l.AgentName == agentName })
	if i < 0 || s.err != nil {
		return ledger.Latest{}, false, s.err
	}
	return s.latest[i], true, nil
}

func (s *store) DeploymentTotals(context.Context) ([]*worktallypb.Series, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.totals, s.err
}

func (s *store) set(f func()) {
	s.mu.Lock()
	f()
	s.mu.Unlock()
}

func newPublisher(t testing.TB, s *store, edit func(*Options)) *Publisher {
	t.Helper()
	o := Options{Catalog: s, Ledger: s, Table: exposition.NewTable(), CollectAgentStats: true}
	if edit != nil {
		edit(&o)
	}
	p, err := New(o)
	must(t, err)
	must(t, p.Rebuild(t.Context()))
	return p
}

// text renders the page.
func text(t testing.TB, p *Publisher, f exposition.Format) string {
	t.Helper()
	var b bytes.Buffer
	page := p.Page()
	must(t, page.Write(&b, f))
	return b.String()
}

// samples are those of the page by name and labels.
func samples(t testing.TB, p *Publisher) map[string]string {
	t.Helper()
	m := make(map[string]string)
	for line := range strings.Lines(text(t, p, exposition.Text)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") {
			i := strings.LastIndexByte(line, ' ')
			if _, twice := m[line[:i]]; twice {
				t.Errorf("%s is there twice", line[:i])
			}
			m[line[:i]] = line[i+1:]
		}
	}
	return m
}

func want(t testing.TB, p *Publisher, values map[string]string) {
	t.Helper()
	got := samples(t, p)
	for name, v := range values {
		if got[name] != v {
			t.Errorf("%s is %q, want %q", name, got[name], v)
		}
	}
}

// reported counts the samples about agents' reports.
func reported(t testing.TB, p *Publisher) (n int) {
	t.Helper()
	for name := range samples(t, p) {
		if strings.HasPrefix(name, "coderd_agentstats_") || strings.HasPrefix(name, "agent_") || strings.HasPrefix(name, "worktally_agent_report_") {
			n++
		}
	}
	return n
}

const idLabels = `agent_name="main",username="ann",workspace_name="box"`

func identity(name string) catalog.Identity {
	return catalog.Identity{
		Agent:     catalog.Agent{ID: uuid.New(), Name: "main"},
		Workspace: catalog.Workspace{ID: uuid.New(), Name: name, Template: catalog.Template{Name: "go", Version: "v1"}},
		Owner:     catalog.User{ID: uuid.New(), Username: "ann"},
	}
}

func series(name string, v float64, labels ...string) *worktallypb.Series {
	return &worktallypb.Series{Name: name, Labels: labels, Value: v}
}

// outcome is what the ledger says after a report with a window of rx bytes.
func outcome(id catalog.Identity, rx uint64, sessions int64, totals ...*worktallypb.Series) ledger.Outcome {
	now := time.Now()
	g := &worktallypb.Gauges{ConnectionCount: sessions}
	if sessions > 0 {
		g.Sessions = []*worktallypb.OpenSessions{{AppName: "ssh", Count: sessions}}
	}
	return ledger.Outcome{Newest: true, Latest: ledger.Latest{
		WorkspaceID: id.Workspace.ID, AgentName: id.Agent.Name, Totals: totals, Gauges: g, End: now, Length: 30 * time.Second,
		Arrival: now, Interval: 30 * time.Second, Recent: []ledger.RecentWindow{{End: now, RxBytes: rx, TxBytes: 2 * rx}},
	}}
}

func status(id catalog.Identity) catalog.AgentStatus {
	return catalog.AgentStatus{
		AgentID: id.Agent.ID, AgentName: id.Agent.Name, WorkspaceID: id.Workspace.ID, WorkspaceName: id.Workspace.Name,
		OwnerName: id.Owner.Username, Template: id.Workspace.Template, CreatedAt: time.Now(), State: catalog.AgentState{Lifecycle: agentpb.Lifecycle_CREATED},
	}
}

func TestAgentOff(t *testing.T) {
	p := newPublisher(t, &store{}, nil)
	id := identity("box")
	p.Reported(id, time.Now(), outcome(id, 1, 1))
	p.AgentOff(id.Workspace.ID, "other")
	if reported(t, p) == 0 {
		t.Fatal("another agent's end ended the series")
	}
	p.AgentOff(id.Workspace.ID, "main")
	if n := reported(t, p); n != 0 {
		t.Errorf("%d samples of an agent that is off", n)
	}
	late := outcome(id, 1, 1)
	late.Newest = false // totals that an older session delivered
	p.Reported(id, time.Now(), late)
	if n := reported(t, p); n != 0 {
		t.Errorf("%d samples came back", n)
	}
	p.Reported(id, time.Now(), outcome(id, 1, 1))
	if reported(t, p) == 0 {
		t.Error("the agent that is on again is not shown")
	}
}

func TestByteGaugesDecay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, &store{}, nil)
		id := identity("box")
		now := time.Now()
		o := outcome(id, 100, 1, series("agent_network_receive_bytes_total", 107, "path", "tcp"))
		o.Latest.Interval = 10 * time.Minute
		o.Latest.Recent = []ledger.RecentWindow{{End: now.Add(-40 * time.Second), RxBytes: 7}, {End: now, RxBytes: 100}}
		p.Reported(id, now, o)
		name := "coderd_agentstats_rx_bytes{" + idLabels + "}"
		for _, step := range []struct {
			after time.Duration
			rx    string
		}{{0, "107"}, {20*time.Second - 1, "107"}, {1, "100"}, {40*time.Second - 1, "100"}, {1, "0"}, {time.Minute, "0"}} {
			time.Sleep(step.after)
			if got := samples(t, p)[name]; got != step.rx {
				t.Errorf("after %s: %s, want %s", time.Since(now), got, step.rx)
			}
		}
		want(t, p, map[string]string{`agent_network_receive_bytes_total{agent_name="main",username="ann",workspace_name="box",template_name="go",path="tcp"}`: "107"})
	})
}

func TestRebuild_EqualsThePageBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{totals: []*worktallypb.Series{series("agent_scripts_executed_total", 3, "success", "true")}}
		p := newPublisher(t, s, nil)
		on, off, silent, gone := identity("on"), identity("off"), identity("silent"), identity("gone")
		old := outcome(silent, 5, 1)
		time.Sleep(71 * time.Second)
		for _, id := range []catalog.Identity{on, off, silent} {
			s.statuses = append(s.statuses, status(id))
		}
		s.statuses[1].State.Lifecycle = agentpb.Lifecycle_OFF
		o := outcome(on, 9, 2, series("agent_scripts_executed_total", 3, "success", "true"), series("agent_new_total", 1, "k", "v"))
		o.Latest.Gauges.Series = []*worktallypb.Series{series("agent_temperature", 40)}
		p.Reported(on, time.Now(), o)
		p.Reported(off, time.Now(), outcome(off, 1, 1))
		p.AgentOff(off.Workspace.ID, "main")
		s.latest = []ledger.Latest{o.Latest, outcome(off, 1, 1).Latest, old.Latest, outcome(gone, 1, 1).Latest}
		must(t, p.refreshStates(t.Context()))
		time.Sleep(30 * time.Second)
		before := text(t, p, exposition.Text)
		after := text(t, newPublisher(t, s, nil), exposition.Text)
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("page (-before +after the restart):\n%s", diff)
		}
		if !strings.Contains(after, "agent_temperature{") || !strings.Contains(after, "agent_new_total{") {
			t.Error("dynamic families are missing")
		}
	})
}

func TestRebuild_Errors(t *testing.T) {
	s := &store{err: errors.New("no database")}
	p, err := New(Options{Catalog: s, Ledger: s, Table: exposition.NewTable()})
	must(t, err)
	if err := p.Rebuild(t.Context()); !errors.Is(err, s.err) {
		t.Errorf("err = %v", err)
	}
	if _, err := New(Options{}); err == nil {
		t.Error("nothing is required")
	}
	if _, err := New(Options{Catalog: s, Ledger: s, Table: exposition.NewTable(), ByteWindow: time.Hour}); err == nil {
		t.Error("a byte window that the ledger does not keep")
	}
}

func TestCollectOff(t *testing.T) {
	s := &store{totals: []*worktallypb.Series{series("agent_scripts_executed_total", 3, "success", "true")}}
	id := identity("box")
	s.statuses = []catalog.AgentStatus{status(id)}
	p := newPublisher(t, s, func(o *Options) { o.CollectAgentStats = false })
	p.Reported(id, time.Now(), outcome(id, 1, 1, series("agent_new_total", 1)))
	for _, f := range []exposition.Format{exposition.Text, exposition.OpenMetrics} {
		page := text(t, p, f)
		for _, no := range []string{"coderd_agentstats_", "agent_scripts", "agent_new", "worktally_workspace_"} {
			if strings.Contains(page, no) {
				t.Errorf("the page has %s without the collect flag", no)
			}
		}
		if !strings.Contains(page, "coderd_agents_connections{") {
			t.Error("the state of agents is missing")
		}
	}
}

func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		ids := map[string]catalog.Identity{}
		for _, name := range []string{"new", "late", "on", "off", "stale", "before", "back"} {
			ids[name] = identity(name)
			s.statuses = append(s.statuses, status(ids[name]))
		}
		long := time.Now().Add(-time.Hour)
		set := func(i int, first, last, gone time.Time) {
			st := &s.statuses[i].State
			st.FirstConnectedAt, st.LastConnectedAt, st.DisconnectedAt = first, last, gone
		}
		s.statuses[1].CreatedAt = time.Now().Add(-connectTimeout)
		set(5, long, time.Now(), time.Now()) // a heartbeat of the process before
		time.Sleep(time.Second)
		p := newPublisher(t, s, func(o *Options) {
			o.Node = func(id uuid.UUID) *tailnetpb.Node {
				if id != ids["on"].Agent.ID {
					return nil
				}
				return &tailnetpb.Node{Id: -255}
			}
		})
		for name := range samples(t, p) {
			if strings.Contains(name, `workspace_name="before"`) && strings.HasPrefix(name, "coderd_agents_connections") &&
				!strings.Contains(name, `status="disconnected"`) {
				t.Errorf("a second after the restart: %s", name)
			}
		}
		time.Sleep(31 * time.Second)
		now := time.Now()
		set(2, long, now, time.Time{})
		s.statuses[2].State.Lifecycle = agentpb.Lifecycle_START_TIMEOUT
		s.statuses[2].Apps = []catalog.AppStatus{
			{Name: "web", Health: agentpb.AppHealth_HEALTHY}, {Name: "web", Health: agentpb.AppHealth_HEALTHY},
			{Name: "web", Health: agentpb.AppHealth_UNHEALTHY}, {Name: `o"dd\`, Health: 0},
		}
		set(3, long, now, now)
		set(4, long, now.Add(-31*time.Second), time.Time{})
		set(6, long, now.Add(24*time.Hour), now) // the clock was set back, and then it went
		must(t, p.refreshStates(t.Context()))
		line := func(ws, lifecycle, status, node string) string {
			return `coderd_agents_connections{agent_name="main",username="ann",workspace_name="` + ws + `",lifecycle_state="` + lifecycle +
				`",status="` + status + `",tailnet_node="` + node + `"}`
		}
		up := func(ws string) string {
			return `coderd_agents_up{template_name="go",template_version="v1",username="ann",workspace_name="` + ws + `"}`
		}
		app := func(name, health string) string {
			return `coderd_agents_apps{agent_name="main",username="ann",workspace_name="on",app_name="` + name + `",health="` + health + `"}`
		}
		want(t, p, map[string]string{
			line("new", "created", "connecting", "unknown"):        "1",
			line("late", "created", "timeout", "unknown"):          "1",
			line("on", "start_timeout", "connected", "nodeid:-ff"): "1",
			line("off", "created", "disconnected", "unknown"):      "1",
			line("stale", "created", "disconnected", "unknown"):    "1",
			line("before", "created", "disconnected", "unknown"):   "1",
			line("back", "created", "disconnected", "unknown"):     "1",
			up("on"): "1", up("off"): "0", up("new"): "0",
			app("web", "healthy"): "2", app("web", "unhealthy"): "1", app(`o\"dd\\`, "disabled"): "1",
		})
		s.statuses = nil // deleted
		must(t, p.refreshStates(t.Context()))
		for name := range samples(t, p) {
			if strings.HasPrefix(name, "coderd_agents_") {
				t.Errorf("%s of a deleted workspace", name)
			}
		}
	})
}

func TestRun_RefreshesAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		p := newPublisher(t, s, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		id := identity("box")
		s.set(func() { s.statuses, s.err = []catalog.AgentStatus{status(id)}, errors.New("no database") })
		s.set(func() { s.reads = 0 })
		for range 1000 { // many changes are few reads
			p.AgentChanged()
		}
		time.Sleep(time.Second)
		s.set(func() {
			if s.reads < 1 || s.reads > 6 {
				t.Errorf("%d reads in a second", s.reads)
			}
			s.err = nil
			s.totals = []*worktallypb.Series{series("agent_network_receive_bytes_total", 5, "path", "tcp")}
		})
		p.Reported(id, time.Now(), outcome(id, 5, 1))
		time.Sleep(6 * time.Second) // by itself
		want(t, p, map[string]string{
			`worktally_workspace_bytes_total{direction="receive",path="tcp"}`:                                "5",
			`coderd_agents_up{template_name="go",template_version="v1",username="ann",workspace_name="box"}`: "0",
		})
		// Silent agents are forgotten although nobody scrapes.
		time.Sleep(80 * time.Second)
		p.mu.RLock()
		n := p.agents.len()
		p.mu.RUnlock()
		if n != 0 {
			t.Errorf("%d silent agents are kept", n)
		}
		cancel()
		must(t, <-done)
	})
}

func TestDynamicFamilies(t *testing.T) {
	p := newPublisher(t, &store{}, nil)
	one, two := identity("one"), identity("two")
	p.Reported(one, time.Now(), outcome(one, 0, 0, series("agent_thing", 1)))
	o := outcome(two, 0, 0, series("agent_other_total", 2), series("coderd_agents_up", 5), series("agent_session_duration_seconds", 5))
	o.Latest.Gauges.Series = []*worktallypb.Series{series("agent_thing", 7), series("agent_fine", 8)}
	p.Reported(two, time.Now(), o)
	got := samples(t, p)
	name := func(n, ws string) string {
		return n + `{agent_name="main",username="ann",workspace_name="` + ws + `",template_name="go"}`
	}
	if got[name("agent_thing", "one")] != "1" || got[name("agent_thing", "two")] != "" || got[name("agent_other_total", "two")] != "2" ||
		got[name("agent_fine", "two")] != "8" {
		t.Errorf("page: %v", got)
	}
	if n := got[`worktally_rejected_series_total{reason="type_conflict_on_page"}`]; n != "3" {
		t.Errorf("conflicts: %s", n)
	}
	many := outcome(one, 0, 0)
	for i := range maxDynamic + 5 {
		many.Latest.Totals = append(many.Latest.Totals, series(fmt.Sprintf("agent_f%d_total", i), 1))
	}
	p.Reported(one, time.Now(), many)
	if n := samples(t, p)[`worktally_rejected_series_total{reason="too_many_families_on_page"}`]; n != "8" {
		t.Errorf("too many families: %s", n)
	}
}

func histogram(le string, buckets []float64, count float64) []*worktallypb.Series {
	h := []*worktallypb.Series{series("agent_script_duration_seconds_count", count, "stage", le)}
	for i, v := range buckets {
		h = append(h, series("agent_script_duration_seconds_bucket", v, "le", exposition.FormatBound([]float64{1, 10, math.Inf(1)}[i]), "stage", le))
	}
	return h
}

func TestHistograms_OnlyWholeOnes(t *testing.T) {
	p := newPublisher(t, &store{}, nil)
	id := identity("box")
	var totals []*worktallypb.Series
	totals = append(totals, histogram("good", []float64{1, 2, 3}, 3)...)
	totals = append(totals, histogram("falling", []float64{3, 2, 3}, 3)...)
	totals = append(totals, histogram("endless", []float64{1, 2}, 2)...)
	totals = append(totals, histogram("miscounted", []float64{1, 2, 3}, 4)...)
	totals = append(totals, series("agent_script_duration_seconds_sum", 4, "stage", "alone"))
	p.Reported(id, time.Now(), outcome(id, 0, 0, totals...))
	page := text(t, p, exposition.Text)
	for _, bad := range []string{"falling", "endless", "miscounted", "alone"} {
		if strings.Contains(page, `stage="`+bad) {
			t.Errorf("the %s histogram is shown", bad)
		}
	}
	labels := `{agent_name="main",username="ann",workspace_name="box",template_name="go",stage="good"}`
	want(t, p, map[string]string{
		"agent_script_duration_seconds_count" + labels:               "3",
		"agent_script_duration_seconds_sum" + labels:                 "0",
		`worktally_rejected_series_total{reason="broken_histogram"}`: "4",
	})
}
