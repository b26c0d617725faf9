package main

import (
	"fmt"

	ours "github.com/worktally/worktally/exposition"
)

// identity is who an agent is: agent, user, workspace, template.
func identity(i int) [4]string {
	return [4]string{"main", fmt.Sprintf("u%05d", i/2), fmt.Sprintf("ws-%06d", i), "docker"}
}

// series is one of the twelve that each agent has.
type series struct {
	name     string
	counter  bool
	template bool // it has the label template_name
	label    [2]string
	value    func(agent int) float64
}

// perAgent are twelve families, one series each.
func perAgent() []series {
	is := func(v float64) func(int) float64 { return func(int) float64 { return v } }
	return []series{
		{name: "coderd_agentstats_connection_count", value: func(i int) float64 { return float64(i % 7) }},
		{name: "coderd_agentstats_connection_median_latency_seconds", value: func(i int) float64 { return float64(i%1000) / 1e4 }},
		{name: "coderd_agentstats_currently_reachable_peers", template: true, label: [2]string{"connection_type", "p2p"}, value: is(1)},
		{name: "coderd_agentstats_rx_bytes", value: func(i int) float64 { return float64(i) * 1234 }},
		{name: "coderd_agentstats_session_count_jetbrains", value: is(0)},
		{name: "coderd_agentstats_session_count_reconnecting_pty", value: is(0)},
		{name: "coderd_agentstats_session_count_ssh", value: func(i int) float64 { return float64(i % 3) }},
		{name: "coderd_agentstats_session_count_vscode", value: is(1)},
		{name: "coderd_agentstats_startup_script_seconds", template: true, label: [2]string{"success", "true"}, value: func(i int) float64 { return float64(i%100) + 0.25 }},
		{name: "coderd_agentstats_tx_bytes", value: func(i int) float64 { return float64(i) * 567 }},
		{name: "agent_scripts_executed_total", counter: true, template: true, label: [2]string{"success", "true"}, value: func(i int) float64 { return float64(i % 50) }},
		{name: "agent_report_window_seconds", template: true, value: is(30)},
	}
}

// labelNames are those of a series, identity first.
func (s series) labelNames() []string {
	names := []string{"agent_name", "username", "workspace_name"}
	if s.template {
		names = append(names, "template_name")
	}
	if s.label[0] != "" {
		names = append(names, s.label[0])
	}
	return names
}

func (s series) labelValues(id [4]string) []string {
	values := append([]string(nil), id[:3]...)
	if s.template {
		values = append(values, id[3])
	}
	if s.label[0] != "" {
		values = append(values, s.label[1])
	}
	return values
}

// ourPage has the series as rows of ours.
func ourPage(agents int) (ours.Page, error) {
	page := ours.Page{Table: ours.NewTable(), Sides: ours.ServerPage | ours.ServerCollect}
	all := perAgent()
	for i := range agents {
		id := identity(i)
		b := page.Table.NewBuilder(ours.Names{AgentName: id[0], Username: id[1], WorkspaceName: id[2], TemplateName: id[3]})
		for _, s := range all {
			var labels []ours.Label
			if s.label[0] != "" {
				labels = []ours.Label{{Name: s.label[0], Value: s.label[1]}}
			}
			if err := b.Add(s.name, s.value(i), labels...); err != nil {
				return page, err
			}
		}
		page.Rows = append(page.Rows, b.Row())
	}
	return page, nil
}
