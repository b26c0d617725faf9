package republish

import (
	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/wire/worktallypb"
)

// deploymentFamily says under which name of the deployment an agents' total is
// shown, with the label that tells the direction, if there is one.
func deploymentFamily(name string) (family string, extra []exposition.Label) {
	switch name {
	case "agent_network_receive_bytes_total":
		return "worktally_workspace_bytes_total", []exposition.Label{{Name: "direction", Value: "receive"}}
	case "agent_network_transmit_bytes_total":
		return "worktally_workspace_bytes_total", []exposition.Label{{Name: "direction", Value: "transmit"}}
	case "agent_sessions_opened_total":
		return "worktally_workspace_sessions_total", nil
	case "agent_scripts_executed_total":
		return "worktally_workspace_scripts_total", nil
	case ledger.SkippedWindows, ledger.LateWindows:
		return name, nil
	}
	return "", nil
}

// deploymentRow shows the totals that never expire.
func (p *Publisher) deploymentRow(totals []*worktallypb.Series) *exposition.Row {
	b := p.table.Load().NewBuilder(exposition.Names{})
	for _, s := range totals {
		family, labels := deploymentFamily(s.GetName())
		if family == "" {
			continue
		}
		p.add(b, family, s.GetValue(), append(labels, labelsOf(s)...)...)
	}
	b.FillZeros(func(f *exposition.Family) bool { return f.Sides == exposition.ServerCollect && !f.Forwarded })
	return b.Row()
}
