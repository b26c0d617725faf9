package e2e

import (
	"context"
	"errors"
	"strings"

	"github.com/worktally/worktally/e2e/stack"
)

// compare compares everything that was counted with everything that was done.
func (w *world) compare(ctx context.Context, opened float64) error {
	before, err := w.notes()
	if err != nil {
		return err
	}
	agent, server, err := stack.BothPages(ctx, w.agent, w.server)
	if err != nil {
		return err
	}
	after, err := w.notes()
	if err != nil {
		return err
	}
	if before != after {
		return errors.New("a script ended meanwhile")
	}
	var s same
	for success, n := range map[string]int{`success="true"`: before.ok, `success="false"`: before.failed} {
		s.check("scripts "+success, float64(n), agent.Sum("agent_scripts_executed_total", success),
			server.Sum("agent_scripts_executed_total", success), server.Sum("worktally_workspace_scripts_total", success))
	}
	s.check("sessions opened", opened, agent.Sum("agent_sessions_opened_total"), server.Sum("agent_sessions_opened_total"), server.Sum("worktally_workspace_sessions_total"))
	s.check("sessions ended", opened, agent.Sum("agent_sessions_ended_total"), server.Sum("agent_sessions_ended_total"))
	s.check("length of sessions", opened, agent.Sum("agent_session_duration_seconds"), server.Sum("agent_session_duration_seconds"))
	s.check("open sessions", 0, agent.Sum("agent_open_sessions"), server.Sum("agent_open_sessions"), server.Sum("coderd_agentstats_session_count_ssh"))
	to, from := w.agent.SSH.Counts()
	s.check("bytes to the agent", float64(to), agent.Sum("agent_network_receive_bytes_total"),
		server.Sum("agent_network_receive_bytes_total"), server.Sum("worktally_workspace_bytes_total", `direction="receive"`))
	s.check("bytes from the agent", float64(from), agent.Sum("agent_network_transmit_bytes_total"),
		server.Sum("agent_network_transmit_bytes_total"), server.Sum("worktally_workspace_bytes_total", `direction="transmit"`))
	sameCounters(&s, agent, server)
	return s.err()
}

// sameCounters: whatever an agent counts and a server shows is equal on both
// pages.
func sameCounters(s *same, agent, server stack.Page) {
	for key, v := range agent {
		name, _, _ := strings.Cut(key, "{")
		counter := strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_duration_seconds")
		if counter && strings.HasPrefix(name, "agent_") && server.Has(name) {
			// What is 0 does not travel; a series that is not there is 0.
			s.check(key, v, server[key])
		}
	}
}
