package republish

import (
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/exposition"
)

type agentKey struct {
	workspace uuid.UUID
	agent     string
}

// agents are the entries of all agents, in the order in which they were last
// replaced. Rows that were made one after the other lie side by side in memory,
// and a scrape that reads them in that order takes a quarter of the time of one
// that jumps around (docs/performance.md). So a new entry goes to the end and
// leaves a gap where the old one was; gaps are closed when they are the majority.
type agents struct {
	index map[agentKey]int // into slots
	slots []slot
	// series and text are the sums over all rows.
	series, text int64
}

// slot is a place in the order; without an entry it is a gap.
type slot struct {
	row   *exposition.Row
	due   instant // when the entry changes by itself
	entry *entry
}

// instant is a time as the distance from when the publisher started, which a
// changed clock does not change.
type instant time.Duration

func newAgents() *agents { return &agents{index: make(map[agentKey]int)} }

func (a *agents) len() int { return len(a.index) }

// get returns the entry of an agent, nil if there is none.
func (a *agents) get(k agentKey) *entry {
	i, ok := a.index[k]
	if !ok {
		return nil
	}
	return a.slots[i].entry
}

// put adds an entry or replaces the one that the agent has.
func (a *agents) put(e *entry) {
	a.remove(e.key)
	a.index[e.key] = len(a.slots)
	a.slots = append(a.slots, slot{row: e.row, due: e.due(), entry: e})
	a.series += int64(e.row.Len())
	a.text += int64(e.row.TextSize())
}

func (a *agents) remove(k agentKey) {
	i, ok := a.index[k]
	if !ok {
		return
	}
	row := a.slots[i].row
	a.series -= int64(row.Len())
	a.text -= int64(row.TextSize())
	a.slots[i] = slot{}
	delete(a.index, k)
	if gaps := len(a.slots) - len(a.index); gaps > 64 && gaps > len(a.index) {
		a.closeGaps()
	}
}

func (a *agents) closeGaps() {
	kept := make([]slot, 0, len(a.index)+len(a.index)/2)
	for _, s := range a.slots {
		if s.entry != nil {
			a.index[s.entry.key] = len(kept)
			kept = append(kept, s)
		}
	}
	a.slots = kept
}

// rows returns the rows of all agents.
func (a *agents) rows() []*exposition.Row {
	rows := make([]*exposition.Row, 0, len(a.index))
	for i := range a.slots {
		if r := a.slots[i].row; r != nil {
			rows = append(rows, r)
		}
	}
	return rows
}

// due returns the entries that have changed by themselves.
func (a *agents) due(now instant) (due []*entry) {
	for i := range a.slots {
		if s := &a.slots[i]; s.entry != nil && s.due <= now {
			due = append(due, s.entry)
		}
	}
	return due
}
