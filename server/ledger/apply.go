package ledger

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire/worktallypb"
)

// apply changes a to what it is after the submission. It is pure: everything it
// needs was loaded before, everything it causes is in the result.
func (a *agentState) apply(s *Submission) *change {
	c := &change{marks: map[int64]minutes{}, tally: tally{refused: map[string]int{}}}
	a.latest.WorkspaceID, a.latest.AgentName = s.WorkspaceID, s.AgentName
	a.latest.OwnerID, a.latest.TemplateName = s.OwnerID, s.TemplateName
	if s.Stock != nil {
		a.applyStock(s, c)
	}
	for i, w := range s.Windows {
		refused := a.applyWindow(s, w, i == 0, c)
		if refused != "" {
			c.tally.refused[refused]++
		}
		c.outcome.Acknowledged = append(c.outcome.Acknowledged, &worktallypb.Acknowledgement{
			Epoch: bytes.Clone(w.GetEpoch()), Sequence: w.GetSequence(), Refused: refused,
		})
	}
	a.closeEpochs(s, c)
	c.outcome.Latest = a.latest
	c.outcome.Latest.Totals = a.totals()
	c.outcome.Latest.MissingWindows = uint64(max(0, a.missing))
	return c
}

// refuseAll is what becomes of a submission for a workspace that was deleted.
// Nothing is stored.
func refuseAll(s *Submission) *change {
	c := &change{tally: tally{refused: map[string]int{RefusedForgotten: len(s.Windows)}}}
	c.outcome.Latest = Latest{WorkspaceID: s.WorkspaceID, AgentName: s.AgentName, OwnerID: s.OwnerID, TemplateName: s.TemplateName}
	for _, w := range s.Windows {
		c.outcome.Acknowledged = append(c.outcome.Acknowledged, &worktallypb.Acknowledgement{
			Epoch: bytes.Clone(w.GetEpoch()), Sequence: w.GetSequence(), Refused: RefusedForgotten,
		})
	}
	return c
}

// totals returns the sums over all epochs.
func (a *agentState) totals() []*worktallypb.Series {
	anchor := a.epochs[a.anchor]
	if anchor == nil {
		return a.others
	}
	if len(a.others) == 0 {
		return anchor.totals
	}
	all, _ := sum(a.others, asGrowth(anchor.totals))
	return all
}

// applyWindow takes in one window and returns why it is refused, or "".
func (a *agentState) applyWindow(s *Submission, w *worktallypb.Window, first bool, c *change) string {
	id, err := uuid.FromBytes(w.GetEpoch())
	if err != nil || id == uuid.Nil { // the nil epoch is that of stock agents
		return RefusedBadEpoch
	}
	e, known := a.epochs[id]
	if !known {
		e = &epochState{id: id}
	}
	if e.closed {
		return RefusedClosedEpoch
	}
	seq := w.GetSequence()
	ahead := seq > e.sequence
	if seq == 0 || seq > maxSequence || (ahead && seq-e.sequence > maxJump) {
		return RefusedBadSequence
	}
	if !ahead {
		a.arrived(e, seq, c)
	}
	switch {
	case len(w.GetTotals()) == 0:
		c.tally.history++
	case !ahead:
		c.tally.resent++
	default:
		totals, grown, refused := advance(e.totals, w.GetTotals())
		if refused != "" {
			return refused
		}
		if !known {
			a.create(e, c)
		}
		c.tally.committed++
		a.skip(e, seq, c)
		e.sequence, e.totals, e.changed = seq, totals, true
		e.arrived = s.Arrival.UnixMicro()
		a.grow(e, grown, c)
	}
	a.place(s, w, id, first, c)
	return ""
}

// create makes e the newest epoch of the agent.
func (a *agentState) create(e *epochState, c *change) {
	if old := a.epochs[a.anchor]; old != nil {
		var dropped int
		a.others, dropped = sum(a.others, asGrowth(old.totals))
		c.tally.droppedSeries += dropped
	}
	a.created++
	a.openEpochs++
	e.ordinal = a.created
	a.epochs[e.id] = e
	a.anchor = e.id
}

// grow adds what an epoch gained to everything that sums epochs.
func (a *agentState) grow(e *epochState, grown []diff, c *change) {
	c.grown = append(c.grown, grown...)
	if e.id == a.anchor {
		return
	}
	var dropped int
	a.others, dropped = sum(a.others, grown)
	c.tally.droppedSeries += dropped
}

// place puts a window on the server's clock, makes it the agent's newest if it
// is, and marks its minutes.
func (a *agentState) place(s *Submission, w *worktallypb.Window, id uuid.UUID, first bool, c *change) {
	end := s.Arrival.Add(-clamp(w.GetAge().AsDuration(), maxAge))
	length := clamp(w.GetLength().AsDuration(), maxLength)
	l := &a.latest
	sameEpoch := id == l.Epoch && !l.Arrival.IsZero()
	if sameEpoch && w.GetSequence() == l.Sequence {
		return // already placed; its times would only differ by jitter
	}
	start := end.Add(-length)
	previous := l.endBefore(s.Arrival)
	newer := w.GetSequence() > l.Sequence
	if !sameEpoch {
		newer = end.After(previous)
	}
	if first && !s.OlderSession && newer {
		end = later(end, previous)
		start = later(end.Add(-length), previous)
		a.becomeNewest(s, id, w.GetSequence(), start, end, w.GetGauges(), w.GetWindowRxBytes(), w.GetWindowTxBytes())
		c.outcome.Newest = true
	}
	mark(s.Arrival, start, end, w.GetGauges(), c)
}

// endBefore returns the end of the newest window, or the zero time if it is after
// the arrival of the next: the clock was set back since, or it is the end by a
// replica whose clock is ahead. It says nothing then.
func (l *Latest) endBefore(arrival time.Time) time.Time {
	if l.End.After(arrival) {
		return time.Time{}
	}
	return l.End
}

func (a *agentState) becomeNewest(s *Submission, id uuid.UUID, seq uint64, start, end time.Time, g *worktallypb.Gauges, rx, tx uint64) {
	l := &a.latest
	l.Epoch, l.Sequence, l.Gauges = id, seq, g
	l.End, l.Length = end, end.Sub(start)
	l.Arrival, l.Interval = s.Arrival, s.Interval
	l.Recent = appendRecent(l.Recent, RecentWindow{End: end, RxBytes: rx, TxBytes: tx})
}

// mark notes the minutes of a window for every app that had a session open.
func mark(arrival, start, end time.Time, g *worktallypb.Gauges, c *change) {
	if len(g.GetSessions()) == 0 {
		return
	}
	if end.Before(arrival.Add(-retention)) {
		c.tally.droppedHistory++
		return
	}
	eachHour(start, end, func(hour int64, mask uint64) {
		for _, open := range g.GetSessions() {
			if open.GetCount() > 0 {
				c.marks[hour] = c.marks[hour].add(open.GetAppName(), mask)
			}
		}
	})
}

// closeEpochs folds the epochs older than the first window's if the agent says
// that nothing of them is pending, and the oldest ones beyond the bound. Their
// totals are part of others already, because they are not the anchor.
func (a *agentState) closeEpochs(s *Submission, c *change) {
	before := int64(0)
	if s.NoOlderEpochPending && len(s.Windows) > 0 {
		id, _ := uuid.FromBytes(s.Windows[0].GetEpoch())
		if e := a.epochs[id]; e != nil && !e.closed {
			before = e.ordinal
		}
	}
	var open []*epochState
	for _, e := range a.epochs {
		if !e.closed && e.id != uuid.Nil && e.id != a.anchor {
			open = append(open, e)
		}
	}
	slices.SortFunc(open, func(x, y *epochState) int { return cmp.Compare(x.ordinal, y.ordinal) })
	for _, e := range open {
		if e.ordinal >= before && a.openEpochs <= maxEpochs {
			break
		}
		e.closed, e.changed = true, true
		e.totals, e.absolutes, e.gaps = nil, nil, nil
		a.openEpochs--
		c.closing = append(c.closing, e)
		c.tally.closed++
	}
}

// mustSeeAll reports whether closeEpochs will need every open epoch.
func (a *agentState) mustSeeAll(s *Submission) bool {
	return (s.NoOlderEpochPending && a.openEpochs > 1) || a.openEpochs+int64(len(s.Windows)) > maxEpochs
}

func clamp(d, most time.Duration) time.Duration { return min(max(d, 0), most) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
