package republish

import (
	"time"

	"github.com/worktally/worktally/exposition"
)

// Page returns what is shown now. It waits for nothing but the copying of
// pointers.
func (p *Publisher) Page() exposition.Page {
	page := exposition.Page{Table: p.table.Load(), Sides: exposition.ServerPage}
	page.Rows = append(page.Rows, p.ownRow(page.Table))
	if p.o.Deployment != nil {
		page.Rows = append(page.Rows, p.o.Deployment()...)
	}
	if states := p.states.Load(); states != nil {
		page.Rows = append(page.Rows, *states...)
	}
	if !p.o.CollectAgentStats {
		return page
	}
	page.Sides |= exposition.ServerCollect
	if d := p.deployment.Load(); d != nil {
		page.Rows = append(page.Rows, d)
	}
	page.Rows = append(page.Rows, p.reportRows(time.Now())...)
	// A family that came meanwhile has rows only from the next scrape on.
	return page
}

func (p *Publisher) ownRow(t *exposition.Table) *exposition.Row {
	b := t.NewBuilder(exposition.Names{})
	if p.o.Own != nil {
		p.o.Own(b)
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	for reason, n := range p.rejected {
		p.add(b, "worktally_rejected_series_total", float64(n), exposition.Label{Name: "reason", Value: reason})
	}
	return b.Row()
}

// reportRows returns the rows of the agents that are not silent, and sweeps out
// those that are.
func (p *Publisher) reportRows(now time.Time) []*exposition.Row {
	p.mu.RLock()
	entries := make([]*entry, 0, len(p.agents))
	for _, e := range p.agents {
		entries = append(entries, e)
	}
	p.mu.RUnlock()
	rows := make([]*exposition.Row, 0, len(entries))
	for _, e := range entries {
		switch {
		case !now.Before(e.expires):
			p.replace(e, nil)
		case !e.stale.IsZero() && !now.Before(e.stale):
			// A window has left the span of the byte gauges.
			fresh := p.build(e.names, e.latest, now)
			p.replace(e, fresh)
			rows = append(rows, fresh.row)
		default:
			rows = append(rows, e.row)
		}
	}
	return rows
}

// replace swaps an entry unless a report was faster. A nil fresh removes it.
func (p *Publisher) replace(old, fresh *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.agents[old.key] != old {
		return
	}
	if fresh == nil {
		delete(p.agents, old.key)
		return
	}
	p.agents[old.key] = fresh
}
