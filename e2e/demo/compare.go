package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/worktally/worktally/e2e/stack"
)

// awaitStart waits until the start scripts have ended and the server knows.
func (d *demo) awaitStart(ctx context.Context) error {
	return d.await(ctx, func() error {
		agent, server, err := d.pages(ctx)
		if err != nil {
			return err
		}
		for name, p := range map[string]stack.Page{"agent": agent, "server": server} {
			if p.Sum("coderd_agentstats_startup_script_seconds", `success="false"`) <= 0 {
				return fmt.Errorf("the %s's page has no startup_script_seconds", name)
			}
		}
		return nil
	})
}

// gauges are the compatible session gauges and what they are while the demo
// holds its sessions open.
func gauges() map[string]float64 {
	return map[string]float64{
		"coderd_agentstats_session_count_ssh": 2, "coderd_agentstats_session_count_vscode": 1,
		"coderd_agentstats_session_count_reconnecting_pty": 1, "coderd_agentstats_session_count_jetbrains": 0,
	}
}

func (d *demo) awaitSessions(ctx context.Context) error {
	return d.await(ctx, func() error {
		agent, server, err := d.pages(ctx)
		if err != nil {
			return err
		}
		for name, want := range gauges() {
			if a, s := agent.Sum(name), server.Sum(name); a != want || s != want {
				return fmt.Errorf("%s is %v on the agent's page and %v on the server's, not %v", name, a, s, want)
			}
		}
		for name, p := range map[string]stack.Page{"agent": agent, "server": server} {
			if p.Sum("coderd_agentstats_connection_median_latency_seconds") <= 0 || p.Sum("coderd_agentstats_currently_reachable_peers") < 1 {
				return fmt.Errorf("the %s's page has no peer that was measured", name)
			}
		}
		return nil
	})
}

// compare waits for a moment at which both pages and what was done are equal, and
// names what is not if there is none.
func (d *demo) compare(ctx context.Context) error {
	return d.await(ctx, func() error {
		before, err := d.runs()
		if err != nil {
			return err
		}
		agent, server, err := d.pages(ctx)
		if err != nil {
			return err
		}
		after, err := d.runs()
		if err != nil {
			return err
		}
		if before != after {
			return errors.New("a script ended while the pages were read")
		}
		return d.differences(agent, server, before)
	})
}

// counts is how often scripts ended well and badly, by their own notes.
type counts struct{ ok, failed int }

func (d *demo) runs() (counts, error) {
	text, err := os.ReadFile(d.Path("runs"))
	if err != nil {
		return counts{}, err
	}
	return counts{ok: strings.Count(string(text), "true\n"), failed: strings.Count(string(text), "false\n")}, nil
}

func (d *demo) differences(agent, server stack.Page, runs counts) error {
	var errs []error
	check := func(what string, done float64, name string, labels ...string) {
		a, s := agent.Sum(name, labels...), server.Sum(name, labels...)
		if a != done || s != done {
			errs = append(errs, fmt.Errorf("%s: the demo did %s, the agent's page says %s, the server's %s", what, number(done), number(a), number(s)))
		}
	}
	check("scripts that succeeded", float64(runs.ok), "agent_scripts_executed_total", `success="true"`)
	check("scripts that failed", float64(runs.failed), "agent_scripts_executed_total", `success="false"`)
	check("sessions opened", float64(d.sessions.opened), "agent_sessions_opened_total")
	check("sessions ended", float64(d.sessions.opened), "agent_sessions_ended_total")
	check("SFTP sessions", 1, "agent_ssh_server_sftp_connections_total")
	check("terminal connections", 1, "agent_reconnecting_pty_connections_total")
	for name := range gauges() {
		check("gauge "+name, 0, name)
	}
	to, from := d.agent.SSH.Counts()
	check("bytes received over SSH", float64(to), "agent_network_receive_bytes_total", `path="tcp"`)
	check("bytes sent over SSH", float64(from), "agent_network_transmit_bytes_total", `path="tcp"`)
	to, from = d.agent.PTY.Counts()
	check("bytes received by the terminal", float64(to), "agent_network_receive_bytes_total", `path="unix"`)
	check("bytes sent by the terminal", float64(from), "agent_network_transmit_bytes_total", `path="unix"`)
	received := agent.Sum("agent_network_receive_bytes_total", `path="p2p"`) + agent.Sum("agent_network_receive_bytes_total", `path="derp"`)
	sent := agent.Sum("agent_network_transmit_bytes_total", `path="p2p"`) + agent.Sum("agent_network_transmit_bytes_total", `path="derp"`)
	if received <= 0 || sent < tailnetPayload || sent > 2*tailnetPayload {
		errs = append(errs, fmt.Errorf("tailnet: %d bytes of payload were sent, the agent's page says %s of packets, and %s received", tailnetPayload, number(sent), number(received)))
	}
	if got, want := server.Sum("worktally_workspace_bytes_total"), agent.Sum("agent_network_receive_bytes_total")+agent.Sum("agent_network_transmit_bytes_total"); got != want {
		errs = append(errs, fmt.Errorf("bytes of the deployment: %s, the agent counted %s", number(got), number(want)))
	}
	return errors.Join(errs...)
}
