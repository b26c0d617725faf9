package republish

import (
	"errors"
	"time"

	"github.com/worktally/worktally/exposition"
)

// Page returns what is shown now. It waits for nothing but the copying of
// pointers.
func (p *Publisher) Page() exposition.Page {
	page := exposition.Page{Table: p.table.Load(), Sides: exposition.ServerPage}
	own := []*exposition.Row{p.ownRow(page.Table)}
	if states := p.states.Load(); states != nil {
		page.Shared = append(page.Shared, *states)
	}
	if p.o.Deployment != nil {
		page.Shared = append(page.Shared, p.o.Deployment())
	}
	page.Shared = append(page.Shared, own)
	if !p.o.CollectAgentStats {
		return page
	}
	page.Sides |= exposition.ServerCollect
	if d := p.deployment.Load(); d != nil {
		page.Shared = append(page.Shared, []*exposition.Row{d})
	}
	page.Rows = p.reportRows(time.Now())
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

// reportRows returns the rows of the agents that are not silent.
func (p *Publisher) reportRows(now time.Time) []*exposition.Row {
	p.sweep(now)
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.agents.rows()
}

// sweep changes what changes by time alone: byte gauges that a window has left,
// and agents that are silent.
func (p *Publisher) sweep(now time.Time) {
	at := p.instant(now)
	p.mu.RLock()
	due := p.agents.due(at)
	p.mu.RUnlock()
	for _, e := range due {
		p.replace(e, e.at(at, p.table.Load()))
	}
}

// replace swaps an entry unless a report was faster. A nil fresh removes it.
func (p *Publisher) replace(old, fresh *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.agents.get(old.key) != old:
	case fresh == nil:
		p.agents.remove(old.key)
	default:
		p.showLocked(fresh)
	}
}

// add adds a sample of ours. What other parts of the server show may be there
// already; everything else is a mistake of ours, which the log tells.
func (p *Publisher) add(b *exposition.Builder, name string, v float64, labels ...exposition.Label) {
	if err := b.Add(name, v, labels...); err != nil && !errors.Is(err, exposition.ErrDuplicate) {
		p.log.Error("a series cannot be shown", "metric", name, "err", err)
	}
}
