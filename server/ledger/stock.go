package ledger

import (
	"github.com/google/uuid"

	"github.com/worktally/worktally/wire/worktallypb"
)

// applyStock takes in the report of a stock agent. A retry of the very same
// submission is recognised by its arrival and changes nothing.
func (a *agentState) applyStock(s *Submission, c *change) {
	e, known := a.epochs[uuid.Nil]
	if !known {
		e = &epochState{id: uuid.Nil}
		a.create(e, c)
		a.openEpochs-- // the stock epoch is never closed and does not count
	}
	arrived := s.Arrival.UnixMicro()
	if known && e.arrived == arrived {
		c.tally.resent++
		return
	}
	var grown []diff
	for _, d := range s.Stock.Added {
		if by, ok := growth(0, d.GetValue()); ok {
			grown = append(grown, diff{d, by})
		} else {
			c.tally.droppedSeries++
		}
	}
	// A report of an older session may be of the process before.
	if now := witnesses(s.Stock.Sent); len(now) > 0 && !s.OlderSession {
		if restarted(e.witnesses, s.Stock.Sent) {
			e.absolutes = nil // all are counted from 0, also those that come later
		}
		e.witnesses = now
	}
	grown = append(grown, e.absolute(s.Stock.Counters, c)...)
	before := len(e.totals)
	totals, dropped := sum(e.totals, grown)
	if dropped > 0 {
		// What found no room here must not be counted elsewhere either.
		c.tally.droppedSeries += dropped
		grown = onlyKnown(grown, totals)
	}
	grown = dropZero(grown, e.totals[:before])
	e.totals, e.changed, e.arrived = totals, true, arrived
	e.sequence++
	c.tally.committed++
	a.grow(e, grown, c)
	a.placeStock(s, e, c)
}

// absolute turns absolute counters into what they grew by. One that fell was counted
// from 0 again.
func (e *epochState) absolute(counters []*worktallypb.Series, c *change) []diff {
	index := newIndex(e.absolutes)
	next := append([]*worktallypb.Series(nil), e.absolutes...)
	var grown []diff
	for _, now := range counters {
		if _, ok := growth(0, now.GetValue()); !ok {
			c.tally.droppedSeries++
			continue
		}
		key := seriesKey(now)
		i, known := index[key]
		if !known {
			if len(next) >= maxSeries {
				c.tally.droppedSeries++
				continue
			}
			i = len(next)
			index[key] = i
			next = append(next, nil)
		}
		by, ok := growth(next[i].GetValue(), now.GetValue())
		if !ok {
			by = now.GetValue()
		}
		next[i] = now
		grown = append(grown, diff{now, by})
	}
	e.absolutes = next
	return grown
}

// placeStock makes the report the agent's newest window. Stock reports carry no
// times: the window ends when it arrives and begins where the previous one
// ended, if that was about an interval ago.
func (a *agentState) placeStock(s *Submission, e *epochState, c *change) {
	end := s.Arrival
	start := end.Add(-clamp(s.Interval, maxLength))
	if previous := a.latest.endBefore(end); a.latest.Epoch == uuid.Nil && end.Sub(previous) < 2*s.Interval {
		start = previous
	} else {
		start = later(start, previous)
	}
	if !s.OlderSession {
		a.becomeNewest(s, uuid.Nil, e.sequence, start, end, s.Stock.Gauges, s.Stock.RxBytes, s.Stock.TxBytes)
		c.outcome.Newest = true
	}
	mark(s.Arrival, start, end, s.Stock.Gauges, c)
}

// dropZero leaves out series that did not grow, unless they are new.
func dropZero(grown []diff, old []*worktallypb.Series) []diff {
	index := newIndex(old)
	kept := grown[:0]
	for _, g := range grown {
		if _, known := index[seriesKey(g.series)]; g.by > 0 || !known {
			kept = append(kept, g)
		}
	}
	return kept
}

// onlyKnown leaves out what has no place in totals.
func onlyKnown(grown []diff, totals []*worktallypb.Series) []diff {
	index := newIndex(totals)
	kept := grown[:0]
	for _, g := range grown {
		if _, known := index[seriesKey(g.series)]; known {
			kept = append(kept, g)
		}
	}
	return kept
}
