package republish

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/wire/worktallypb"
)

func rejected(reason string) string {
	return `worktally_rejected_series_total{reason="` + reason + `"}`
}

// TestLimits_Agent: an agent with too much loses what it made up, and nothing of
// what counts; zeros and histograms stay whole.
func TestLimits_Agent(t *testing.T) {
	for _, tc := range []struct {
		name, reason string
		limits       Limits
		refused      string
	}{
		{"series", rejectedTooMany, Limits{AgentSeries: 31}, "480"}, // 8 gauges, 1 total, 5 parts, 17 of 497
		{"bytes", rejectedTooLarge, Limits{AgentBytes: 4200}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPublisher(t, &store{}, func(o *Options) { o.Limits = tc.limits })
			villain, bystander := identity("villain"), identity("bystander")
			p.Reported(bystander, time.Now(), outcome(bystander, 1, 1))
			others := reported(t, p)
			var totals []*worktallypb.Series
			for i := range 497 {
				totals = append(totals, series("agent_made_up_total", 1, "n", fmt.Sprint(i)))
			}
			totals = append(totals, histogram("start", []float64{1, 2, 3}, 3)...)
			totals = append(totals, series("agent_scripts_executed_total", 4, "success", "true"))
			p.Reported(villain, time.Now(), outcome(villain, 5, 1, totals...))
			got := samples(t, p)
			if n := got[rejected(tc.reason)]; n == "0" || tc.refused != "" && n != tc.refused {
				t.Errorf("%s series were refused, want %s", n, tc.refused)
			}
			const id = `{agent_name="main",username="ann",workspace_name="villain"`
			for name, v := range map[string]string{
				"coderd_agentstats_rx_bytes" + id + "}":                                                      "5",
				"agent_scripts_executed_total" + id + `,template_name="go",success="true"}`:                  "4",
				"agent_scripts_executed_total" + id + `,template_name="go",success="false"}`:                 "0",
				"agent_script_duration_seconds_bucket" + id + `,template_name="go",le="+Inf",stage="start"}`: "3",
				"agent_script_duration_seconds_count" + id + `,template_name="go",stage="start"}`:            "3",
			} {
				if got[name] != v {
					t.Errorf("%s is %q, want %q", name, got[name], v)
				}
			}
			shown := 0
			for name := range got {
				if strings.HasPrefix(name, "agent_made_up_total{") {
					shown++
				}
			}
			if refused := got[rejected(tc.reason)]; fmt.Sprint(497-shown) != refused || shown == 0 {
				t.Errorf("%d of 497 are shown, %s were refused", shown, refused)
			}
			p.AgentOff(villain.Workspace.ID, "main")
			if n := reported(t, p); n != others {
				t.Errorf("the other agent has %d samples, not %d", n, others)
			}
		})
	}
}

// TestLimits_HistogramWhole: a histogram that does not fit is left out with all
// its parts.
func TestLimits_HistogramWhole(t *testing.T) {
	p := newPublisher(t, &store{}, func(o *Options) { o.Limits.AgentSeries = 11 })
	id := identity("box")
	p.Reported(id, time.Now(), outcome(id, 1, 1, histogram("start", []float64{1, 2, 3}, 3)...))
	if page := text(t, p, exposition.Text); strings.Contains(page, "\nagent_script_duration_seconds_") {
		t.Error("a part of the histogram is shown")
	}
	want(t, p, map[string]string{rejected(rejectedTooMany): "5"})
}

// TestLimits_Total: a page that is full takes no more agents, and those on it stay;
// there is room again when one goes.
func TestLimits_Total(t *testing.T) {
	one, two := identity("one"), identity("two")
	probe := newPublisher(t, &store{}, nil)
	probe.Reported(one, time.Now(), outcome(one, 1, 1))
	series, text := probe.agents.series, probe.agents.text
	for _, limits := range []Limits{{Series: series + 1}, {Bytes: text + 1}} {
		p := newPublisher(t, &store{}, func(o *Options) { o.Limits = limits })
		p.Reported(one, time.Now(), outcome(one, 1, 1))
		p.Reported(two, time.Now(), outcome(two, 1, 1))
		p.Reported(one, time.Now(), outcome(one, 2, 1)) // its old row makes room
		want(t, p, map[string]string{
			"coderd_agentstats_rx_bytes{" + strings.Replace(idLabels, "box", "one", 1) + "}": "2",
			rejected(rejectedFull): fmt.Sprint(series),
		})
		if n := reported(t, p); int64(n) != series {
			t.Errorf("%d samples, want those of one agent, %d", n, series)
		}
		p.AgentOff(one.Workspace.ID, "main")
		p.Reported(two, time.Now(), outcome(two, 1, 1))
		if n := reported(t, p); int64(n) != series {
			t.Errorf("%d samples after the first is gone, want %d", n, series)
		}
		p.AgentOff(two.Workspace.ID, "main")
		if p.agents.series != 0 || p.agents.text != 0 {
			t.Errorf("an empty page has %d series and %d bytes", p.agents.series, p.agents.text)
		}
	}
}

// TestAgents_KeepTheOrderOfReports: whatever comes and goes, the order is that of
// the newest reports, and gaps do not add up.
func TestAgents_KeepTheOrderOfReports(t *testing.T) {
	a := newAgents()
	table := exposition.NewTable()
	var order []agentKey
	for i := range 10_000 {
		k := agentKey{agent: fmt.Sprint(i * 7919 % 300)}
		order = slices.DeleteFunc(order, func(o agentKey) bool { return o == k })
		if i%11 == 0 {
			a.remove(k)
			continue
		}
		a.put(&entry{key: k, row: table.NewBuilder(exposition.Names{AgentName: k.agent}).Row()})
		order = append(order, k)
		if gaps := len(a.slots) - a.len(); gaps > 64+a.len() {
			t.Fatalf("%d gaps among %d agents", gaps, a.len())
		}
	}
	var got []agentKey
	for _, s := range a.slots {
		if s.entry != nil {
			got = append(got, s.entry.key)
		}
	}
	if !slices.Equal(got, order) || len(a.rows()) != len(order) {
		t.Errorf("order %v, want %v", got, order)
	}
	for _, k := range order {
		if e := a.get(k); e == nil || e.key != k {
			t.Errorf("%v is not found", k)
		}
	}
}
