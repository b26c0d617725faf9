package exposition

// serverFamilies are the families that the server makes itself. None of them may
// come from an agent.
func serverFamilies(mode LabelMode) []Family {
	up := []string{"template_name", "template_version", "username", "workspace_name"}
	return []Family{
		{Name: "coderd_agents_up", Type: Gauge, Deployment: true, Sides: ServerPage, Labels: mode.pick(up, []string{"template_name", "username", "workspace_name"}, up),
			Help: "Agents of the workspace that are connected."},
		{Name: "coderd_agents_connections", Type: Gauge, Deployment: true, Identity: Agent, Sides: ServerPage, Labels: []string{"lifecycle_state", "status", "tailnet_node"},
			Help: "Constant 1 for each agent, with its state in the labels."},
		{Name: "coderd_agents_connection_latencies_seconds", Type: Gauge, Identity: Agent, Sides: ServerPage, Labels: []string{"derp_region", "preferred"},
			Help: "Round trip from the agent to the relays of a region, as the agent published it; preferred is its home."},
		{Name: "coderd_agents_apps", Type: Gauge, Deployment: true, Identity: Agent, Sides: ServerPage, Labels: []string{"app_name", "health"},
			Help: "Applications of the agent, by health."},
		{Name: "worktally_workspace_bytes_total", Type: Counter, Deployment: true, Sides: ServerCollect, Labels: []string{"direction", "path"}, Zeros: [][]string{{"receive", "transmit"}, paths()},
			Help: "Bytes that all agents ever exchanged with their peers, from the agents' point of view; never falls and never expires."},
		{Name: "worktally_workspace_sessions_total", Type: Counter, Deployment: true, Sides: ServerCollect, Labels: []string{"via"}, Zeros: [][]string{{"forward", "ssh", "terminal"}},
			Help: "Sessions ever opened in all workspaces; never falls and never expires."},
		{Name: "worktally_workspace_scripts_total", Type: Counter, Deployment: true, Sides: ServerCollect, Labels: []string{"success"}, Zeros: [][]string{{"false", "true"}},
			Help: "Script runs ever ended in all workspaces; never falls and never expires."},
		{Name: "worktally_workspace_report_windows_skipped_total", Type: Counter, Deployment: true, Sides: ServerCollect, Zeros: [][]string{},
			Help: "Report windows that newer totals passed over, in all workspaces; their counts are in the totals; never falls and never expires."},
		{Name: "worktally_workspace_report_windows_late_total", Type: Counter, Deployment: true, Sides: ServerCollect, Zeros: [][]string{},
			Help: "Those of the skipped report windows that came later; the history of the others is not known; never falls and never expires."},
		{Name: "worktally_agent_report_windows_missing", Type: Gauge, Identity: AgentTemplate, Sides: ServerCollect,
			Help: "Report windows of the agent that newer totals passed over and that never came: holes in its history, not in its totals."},
		{Name: "worktally_reports_total", Type: Counter, Sides: ServerPage, Labels: []string{"result"},
			Help: "Report calls of agents, by result."},
		{Name: "worktally_rejected_series_total", Type: Counter, Sides: ServerPage, Labels: []string{"reason"},
			Help: "Series that agents sent and the server did not take, by reason."},
		{Name: "worktally_rejected_windows_total", Type: Counter, Sides: ServerPage, Labels: []string{"reason"},
			Help: "Report windows that agents sent and the server refused for good, by reason."},
		{Name: "worktally_missing_messages_total", Type: Counter, Sides: ServerPage, Labels: []string{"call"},
			Help: "Calls of agents in which a part that the protocol demands was missing."},
		{Name: "worktally_agent_sessions", Type: Gauge, Sides: ServerPage,
			Help: "Sessions that agents hold open with this process."},
		{Name: "worktally_agent_rejected_total", Type: Counter, Sides: ServerPage, Labels: []string{"reason"},
			Help: "Session requests of agents that were refused, by reason."},
		{Name: "worktally_late_writes_total", Type: Counter, Sides: ServerPage, Labels: []string{"what"},
			Help: "States of agents that the database's disk refused, and that are kept in memory until it takes them."},
		{Name: "worktally_coordinator_rejected_total", Type: Counter, Sides: ServerPage, Labels: []string{"reason"},
			Help: "Coordination messages that were refused or dropped, by reason."},
		{Name: "worktally_build_info", Type: Gauge, Sides: ServerPage, Labels: []string{"goversion", "revision", "version"},
			Help: "Constant 1 with the build of the server in its labels."},
	}
}
