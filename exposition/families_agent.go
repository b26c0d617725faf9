package exposition

// agentStats are the ten families of the seed that describe an agent to people,
// and the eleventh that always stands beside them.
func agentStats() []Family {
	const sides = AgentPage | ServerCollect
	return []Family{
		{Name: "coderd_agentstats_connection_count", Type: Gauge, Identity: Agent, Sides: sides,
			Help: "Connections that carried bytes in the last report window."},
		{Name: "coderd_agentstats_connection_median_latency_seconds", Type: Gauge, Identity: Agent, Sides: sides,
			Help: "Median round trip to the peers that answered the last pings; absent while none did."},
		{Name: "coderd_agentstats_currently_reachable_peers", Type: Gauge, Identity: AgentTemplate, Sides: sides, Forwarded: true,
			Labels: []string{"connection_type"}, Zeros: [][]string{{"derp", "p2p"}}, Help: "Peers that answered the last pings, by how they were reached."},
		{Name: "coderd_agentstats_rx_bytes", Type: Gauge, Identity: Agent, Sides: sides,
			Help: "Bytes received from peers in the report windows that ended within the last minute."},
		{Name: "coderd_agentstats_session_count_jetbrains", Type: Gauge, Identity: Agent, Sides: sides,
			Help: "Open JetBrains sessions, counted by forwarded channel."},
		{Name: "coderd_agentstats_session_count_reconnecting_pty", Type: Gauge, Identity: Agent, Sides: sides,
			Help: "Open attachments to reconnecting terminals."},
		{Name: "coderd_agentstats_session_count_ssh", Type: Gauge, Identity: Agent, Sides: sides,
			Help: "Open SSH sessions that belong to none of the other kinds."},
		{Name: "coderd_agentstats_session_count_vscode", Type: Gauge, Identity: Agent, Sides: sides,
			Help: "Open sessions of VS Code and its forks."},
		{Name: "coderd_agentstats_startup_script_seconds", Type: Gauge, Identity: AgentTemplate, Sides: sides, Forwarded: true,
			Labels: []string{"success"}, Help: "Duration of the start phase, from the launch of all start scripts to the end of the last; absent until then."},
		{Name: "coderd_agentstats_tx_bytes", Type: Gauge, Identity: Agent, Sides: sides,
			Help: "Bytes sent to peers in the report windows that ended within the last minute."},
		{Name: "agent_scripts_executed_total", Type: Counter, Identity: AgentTemplate, Sides: sides, Forwarded: true,
			Labels: []string{"success"}, Zeros: [][]string{{"false", "true"}}, Help: "Script runs that came to an end, start, stop and cron alike; success means exit code 0 in time with closed pipes."},
	}
}

// agentFamilies are the other families that an agent counts and a server shows.
func agentFamilies() []Family {
	const sides = AgentPage | ServerCollect
	f := []Family{
		{Name: "agent_sessions_total", Type: Counter, Labels: []string{"magic_type", "pty"},
			Help: "SSH sessions that started a command or a shell, by what the client said it was."},
		{Name: "agent_sessions_errors_total", Type: Counter, Labels: []string{"error_type", "magic_type", "pty"},
			Help: "Errors in SSH sessions."},
		{Name: "agent_ssh_server_failed_connections_total", Type: Counter, Zeros: [][]string{},
			Help: "Connections to the SSH server whose handshake failed."},
		{Name: "agent_ssh_server_sftp_connections_total", Type: Counter, Zeros: [][]string{},
			Help: "SFTP sessions opened."},
		{Name: "agent_ssh_server_sftp_server_errors_total", Type: Counter, Zeros: [][]string{},
			Help: "SFTP sessions that ended with an error."},
		{Name: "agent_x11_handler_errors_total", Type: Counter, Labels: []string{"error_type"}, Zeros: [][]string{{"hostname", "listen", "xauthority"}},
			Help: "X11 forwardings that could not be set up."},
		{Name: "agent_reconnecting_pty_connections_total", Type: Counter, Zeros: [][]string{},
			Help: "Connections to reconnecting terminals accepted."},
		{Name: "agent_reconnecting_pty_errors_total", Type: Counter, Labels: []string{"error_type"},
			Zeros: [][]string{{"create_command", "input_writer", "output_reader", "resize", "screen_output_reader", "screen_spawn", "screen_wait", "screen_write", "write", "write_buffer"}},
			Help:  "Errors of reconnecting terminals."},
		{Name: "agent_network_receive_bytes_total", Type: Counter, Labels: []string{"path"}, Zeros: [][]string{paths()},
			Help: "Bytes received from peers, by the path they took; whole IP packets on the tailnet, payload elsewhere."},
		{Name: "agent_network_transmit_bytes_total", Type: Counter, Labels: []string{"path"}, Zeros: [][]string{paths()},
			Help: "Bytes sent to peers, by the path they took; whole IP packets on the tailnet, payload elsewhere."},
		{Name: "agent_network_receive_packets_total", Type: Counter, Labels: []string{"path"}, Zeros: [][]string{{"derp", "p2p"}},
			Help: "IP packets received from peers over the tailnet, by the path they took."},
		{Name: "agent_network_transmit_packets_total", Type: Counter, Labels: []string{"path"}, Zeros: [][]string{{"derp", "p2p"}},
			Help: "IP packets sent to peers over the tailnet, by the path they took."},
		{Name: "agent_open_sessions", Type: Gauge, Labels: []string{"app_name", "family"},
			Help: "Open sessions by application and family; each session is in exactly one series."},
		{Name: "agent_sessions_opened_total", Type: Counter, Labels: []string{"via"}, Zeros: [][]string{{"forward", "ssh", "terminal"}},
			Help: "Sessions counted as opened, by what opened them: an SSH session, a forwarded channel or a terminal attachment."},
		{Name: "agent_sessions_ended_total", Type: Counter, Labels: []string{"family", "reason"}, Zeros: [][]string{gaugeFamilies(), {"disconnected", "exited", "failed", "shutdown", "timed_out"}},
			Help: "Sessions ended, by the compatible gauge that counted them and why they ended."},
		{Name: "agent_session_duration_seconds", Type: Histogram, Labels: []string{"family"},
			Help: "Length of ended sessions."},
		{Name: "agent_reachable_control_peers", Type: Gauge, Zeros: [][]string{},
			Help: "Peers that answered the last pings and have asked for nothing but the agent's HTTP API so far, as the control plane's own peers do; they are part of coderd_agentstats_currently_reachable_peers."},
		{Name: "agent_peer_round_trip_seconds", Type: Histogram, Labels: []string{"path"},
			Help: "Round trips of pings to active peers of the tailnet, by the path they took."},
		{Name: "agent_script_runs_total", Type: Counter, Labels: []string{"stage", "status"},
			Zeros: [][]string{{"cron", "start", "stop"}, {"exit_failure", "not_started", "ok", "pipes_left_open", "timed_out"}},
			Help:  "Script runs that came to an end, by stage and status."},
		{Name: "agent_script_duration_seconds", Type: Histogram, Labels: []string{"stage"},
			Help: "Duration of ended script runs."},
		{Name: "agent_scripts_skipped_total", Type: Counter, Labels: []string{"reason"}, Zeros: [][]string{{"overlap"}},
			Help: "Due script runs that were not started, for example because the script was still running."},
		{Name: "agent_dropped_total", Type: Counter, Labels: []string{"what"},
			Help: "Things that a bounded place of the agent had to throw away."},
		{Name: "agent_report_window_seconds", Type: Gauge,
			Help: "Length of the last report window."},
	}
	for i := range f {
		f[i].Identity, f[i].Sides, f[i].Forwarded = AgentTemplate, sides, true
	}
	return f
}

func paths() []string { return []string{"derp", "p2p", "tcp", "unix"} }

// gaugeFamilies are those of the four compatible session gauges.
func gaugeFamilies() []string { return []string{"jetbrains", "reconnecting_pty", "ssh", "vscode"} }

// agentProcess are the families about the agent process and its reporting. They
// stay on its own page.
func agentProcess() []Family {
	return []Family{
		{Name: "agent_build_info", Type: Gauge, Sides: AgentPage, Labels: []string{"goversion", "revision", "version"},
			Help: "Constant 1 with the build of the agent in its labels."},
		{Name: "agent_connected", Type: Gauge, Sides: AgentPage,
			Help: "1 while a session with the server is up."},
		{Name: "agent_sessions_with_server_total", Type: Counter, Sides: AgentPage,
			Help: "Sessions with the server that were established."},
		{Name: "agent_dial_errors_total", Type: Counter, Sides: AgentPage,
			Help: "Attempts to reach the server that failed."},
		{Name: "agent_reports_total", Type: Counter, Sides: AgentPage, Labels: []string{"result"},
			Help: "Report calls made, by result."},
		{Name: "agent_report_last_success_timestamp_seconds", Type: Gauge, Sides: AgentPage,
			Help: "When the server last acknowledged a report; absent until then."},
		{Name: "agent_outbox_records", Type: Gauge, Sides: AgentPage,
			Help: "Report windows that the server has not acknowledged."},
		{Name: "agent_outbox_bytes", Type: Gauge, Sides: AgentPage,
			Help: "Length of the report history that waits in the state directory."},
		{Name: "agent_outbox_durable", Type: Gauge, Sides: AgentPage,
			Help: "1 if the newest totals that were to be kept are in the state directory, 0 if they are in memory only, because there is no directory or it cannot be written."},
		{Name: "agent_outbox_write_errors_total", Type: Counter, Sides: AgentPage,
			Help: "Attempts to keep totals or report history in the state directory that failed."},
		{Name: "agent_outbox_set_aside_total", Type: Counter, Sides: AgentPage,
			Help: "Files and windows in the state directory that could not be read when they were needed; files are renamed to *.aside-*."},
		{Name: "agent_outbox_oldest_timestamp_seconds", Type: Gauge, Sides: AgentPage,
			Help: "End of the oldest report window that the server has not acknowledged; absent if there is none."},
	}
}
