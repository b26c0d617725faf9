package republish

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// latencies are the samples of the family, by their labels.
func latencies(t *testing.T, p *Publisher) map[string]string {
	t.Helper()
	const family = "coderd_agents_connection_latencies_seconds"
	m := make(map[string]string)
	for name, v := range samples(t, p) {
		if labels, ok := strings.CutPrefix(name, family); ok {
			m[labels] = v
		}
	}
	return m
}

func TestLatencies(t *testing.T) {
	agent := status(identity("dev"))
	s := &store{statuses: []catalog.AgentStatus{agent}}
	node := &tailnetpb.Node{PreferredDerp: 2, DerpLatency: map[string]float64{
		"1-v4": 0.25, "1-v6": 0.125, "2-v4": 0.5, "7-v6": 3,
		"x-v4": 1, "3": 1, "-1-v4": 1, "4-v4": math.NaN(), "5-v4": -1, "6-v6": math.Inf(1), "99999999999-v4": 1,
	}}
	p := newPublisher(t, s, func(o *Options) {
		o.Node = func(id uuid.UUID) *tailnetpb.Node {
			if id != agent.AgentID {
				t.Errorf("asked for %s", id)
			}
			return node
		}
		o.RelayMap = func() *tailnetpb.DERPMap {
			return &tailnetpb.DERPMap{Regions: map[int64]*tailnetpb.DERPMap_Region{1: {RegionName: "First"}, 2: {RegionName: "Second"}}}
		}
	})
	const names = `{agent_name="main",username="ann",workspace_name="dev",derp_region="`
	want := map[string]string{
		names + `First",preferred="false"}`:     "0.125",
		names + `Second",preferred="true"}`:     "0.5",
		names + `Unnamed 7",preferred="false"}`: "3",
	}
	if diff := cmp.Diff(want, latencies(t, p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	const counted = `worktally_rejected_series_total{reason="broken_latency"}`
	if n := samples(t, p)[counted]; n != "7" {
		t.Errorf("%s refused, want 7", n)
	}
	must(t, p.refreshStates(t.Context()))
	if n := samples(t, p)[counted]; n != "7" {
		t.Errorf("%s refused after another look at the same node, want 7", n)
	}
	node = nil
	must(t, p.refreshStates(t.Context()))
	if got := latencies(t, p); len(got) != 0 {
		t.Errorf("without a node there are %v", got)
	}
}

func TestLatencies_Bounded(t *testing.T) {
	node := &tailnetpb.Node{DerpLatency: make(map[string]float64)}
	for i := range 1000 {
		node.DerpLatency[string(rune('0'+i%10))+string(rune('0'+i/10%10))+string(rune('0'+i/100))+"-v4"] = 1
	}
	m, refused := regionLatencies(node, nil)
	if len(m) != maxRegions || refused != 1000-maxRegions {
		t.Errorf("%d shown, %d refused", len(m), refused)
	}
}

func FuzzRegionLatencies(f *testing.F) {
	f.Add("1-v4", 1.0)
	f.Add("-v6", math.Inf(-1))
	f.Fuzz(func(t *testing.T, key string, seconds float64) {
		m, refused := regionLatencies(&tailnetpb.Node{DerpLatency: map[string]float64{key: seconds}}, nil)
		if uint64(len(m))+refused != 1 {
			t.Fatalf("%v and %d refused of one", m, refused)
		}
		for name, l := range m {
			if !strings.HasPrefix(name, "Unnamed ") || math.IsNaN(l.seconds) || math.IsInf(l.seconds, 0) {
				t.Fatalf("%q: %v", name, l)
			}
		}
	})
}
