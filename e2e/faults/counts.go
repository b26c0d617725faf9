package main

import (
	"fmt"
	"strings"

	"github.com/worktally/worktally/e2e/stack"
)

// kind is one of the totals that the proof is about.
type kind int

const (
	sessions kind = iota
	received      // bytes over SSH, from the agent's point of view
	transmitted
	scriptsOK
	scriptsFailed
	kinds
)

// String is what people call it.
func (k kind) String() string {
	return [kinds]string{"sessions", "bytes received", "bytes transmitted", "scripts that succeeded", "scripts that failed"}[k]
}

// counts are totals by kind.
type counts [kinds]float64

func (c counts) plus(d counts) counts {
	for k := range c {
		c[k] += d[k]
	}
	return c
}

// excess adds up what c has more than d, kind by kind.
func (c counts) excess(d counts) (sum float64) {
	for k := range c {
		sum += max(0, c[k]-d[k])
	}
	return sum
}

// scripts are only those of scripts.
func (c counts) scripts() counts {
	return counts{scriptsOK: c[scriptsOK], scriptsFailed: c[scriptsFailed]}
}

// differ names the kinds in which got is not what it should be.
func differ(where string, want, got counts) error {
	var list []string
	for k := range kinds {
		if want[k] != got[k] {
			list = append(list, fmt.Sprintf("%s: %.0f, not %.0f", k, got[k], want[k]))
		}
	}
	if len(list) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s", where, strings.Join(list, ", "))
}

// ofAgent are the totals of one agent on its own page, or on the server's with a
// label that picks it.
func ofAgent(p stack.Page, labels ...string) counts {
	sum := func(name string, more ...string) float64 { return p.Sum(name, append(more, labels...)...) }
	return counts{
		sessions:      sum("agent_sessions_opened_total"),
		received:      sum("agent_network_receive_bytes_total", `path="tcp"`),
		transmitted:   sum("agent_network_transmit_bytes_total", `path="tcp"`),
		scriptsOK:     sum("agent_scripts_executed_total", `success="true"`),
		scriptsFailed: sum("agent_scripts_executed_total", `success="false"`),
	}
}

// ofDeployment are the totals of all agents that ever were.
func ofDeployment(p stack.Page) counts {
	return counts{
		sessions:      p.Sum("worktally_workspace_sessions_total"),
		received:      p.Sum("worktally_workspace_bytes_total", `direction="receive"`, `path="tcp"`),
		transmitted:   p.Sum("worktally_workspace_bytes_total", `direction="transmit"`, `path="tcp"`),
		scriptsOK:     p.Sum("worktally_workspace_scripts_total", `success="true"`),
		scriptsFailed: p.Sum("worktally_workspace_scripts_total", `success="false"`),
	}
}
