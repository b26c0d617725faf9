package republish

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/catalog"
)

// slowStore takes its time to tell the states.
type slowStore struct {
	*store
	took time.Duration
}

func (s slowStore) AgentStatuses(ctx context.Context, fn func(catalog.AgentStatus) error) error {
	time.Sleep(s.took)
	return s.store.AgentStatuses(ctx, fn)
}

// TestRefreshes_AreTimed: under the names of the mode, failed ones too, in the
// buckets of the contract.
func TestRefreshes_AreTimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for mode, names := range map[exposition.LabelMode][]string{
			exposition.LabelsBoth: {"coderd_metrics_collector_agents_execution_seconds", "coderd_prometheusmetrics_agents_execution_seconds"},
			exposition.LabelsSeed: {"coderd_metrics_collector_agents_execution_seconds"},
			exposition.LabelsLive: {"coderd_prometheusmetrics_agents_execution_seconds"},
		} {
			registry := prometheus.NewRegistry()
			s := slowStore{&store{}, 30 * time.Millisecond}
			p := newPublisher(t, s.store, func(o *Options) { o.Catalog, o.Registerer, o.Labels = s, registry, mode })
			before := count(t, registry, names[0])
			must(t, p.refreshStates(t.Context()))
			s.err = errors.New("no database")
			if err := p.refreshStates(t.Context()); !errors.Is(err, s.err) {
				t.Errorf("err = %v", err)
			}
			families, err := registry.Gather()
			must(t, err)
			var got []string
			for _, f := range families {
				got = append(got, f.GetName())
				h := f.GetMetric()[0].GetHistogram()
				var bounds []float64
				for _, b := range h.GetBucket() {
					bounds = append(bounds, b.GetUpperBound())
				}
				if diff := cmp.Diff([]float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10, 30}, bounds); diff != "" {
					t.Errorf("bounds (-want +got):\n%s", diff)
				}
				if n := h.GetSampleCount() - before; n != 2 || h.GetSampleSum() < 0.06 {
					t.Errorf("%s: %d passes, %g s in all", f.GetName(), n, h.GetSampleSum())
				}
			}
			if !slices.Equal(got, names) {
				t.Errorf("mode %s: %v, want %v", mode, got, names)
			}
			if _, err := New(Options{Catalog: s, Ledger: s, Table: exposition.NewTable(), Registerer: registry, Labels: mode}); err == nil {
				t.Error("the families were registered twice")
			}
		}
	})
}

func count(t *testing.T, g prometheus.Gatherer, name string) uint64 {
	t.Helper()
	families, err := g.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// TestStates_FrozenAgent: its last heartbeat came just before it froze and was
// written a second later, and still it is disconnected within 30 s; one whose
// heartbeats come every 15 s never is.
func TestStates_FrozenAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		frozen, alive := identity("frozen"), identity("alive")
		s.statuses = []catalog.AgentStatus{status(frozen), status(alive)}
		p := newPublisher(t, s, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		began := time.Now()
		beat := func(i int) {
			s.set(func() {
				s.statuses[i].State.FirstConnectedAt, s.statuses[i].State.LastConnectedAt = began, time.Now()
			})
		}
		connected := func(name string) bool {
			for n := range samples(t, p) {
				if strings.HasPrefix(n, "coderd_agents_connections{") && strings.Contains(n, `workspace_name="`+name+`"`) {
					return strings.Contains(n, `status="connected"`)
				}
			}
			t.Fatalf("no %s", name)
			return false
		}
		time.Sleep(time.Second)
		beat(0)
		beat(1)
		p.AgentChanged()
		for second := 2; second <= 100; second++ {
			time.Sleep(time.Second)
			if second%15 == 1 {
				beat(1)
			}
			if !connected("alive") {
				t.Errorf("after %d s the one that lives is disconnected", second)
			}
			if connected("frozen") != (second < 30) && (second < 25 || second >= 30) {
				t.Errorf("%d s after the agent froze it is connected: %t", second, connected("frozen"))
			}
		}
		cancel()
		must(t, <-done)
	})
}

// TestDeploymentRows: other parts of the server show rows, on the whole page and on
// the deployment's.
func TestDeploymentRows(t *testing.T) {
	table := exposition.NewTable()
	b := table.NewBuilder(exposition.Names{})
	must(t, b.Add("coderd_agents_up", 3, exposition.Label{Name: "workspace_name", Value: "elsewhere"}))
	rows := []*exposition.Row{b.Row()}
	p := newPublisher(t, &store{}, func(o *Options) {
		o.Table, o.Deployment = table, func() []*exposition.Row { return rows }
	})
	want(t, p, map[string]string{`coderd_agents_up{workspace_name="elsewhere"}`: "3"})
}
