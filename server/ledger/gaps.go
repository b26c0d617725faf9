package ledger

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/worktally/worktally/wire/worktallypb"
)

// Names under which the deployment's totals have the windows that newer totals
// passed over, and those of them that came later. The difference never arrived.
const (
	SkippedWindows = "worktally_workspace_report_windows_skipped_total"
	LateWindows    = "worktally_workspace_report_windows_late_total"
)

// gap is the sequences from first to last.
type gap struct{ first, last uint64 }

// gaps are in order, and none touches another.
type gaps []gap

// maxGaps bounds those of one epoch. Beyond it the oldest are forgotten: their
// windows stay missing even if they come.
const maxGaps = 64

// skip adds the sequences from first to last, which are after all others.
func (g gaps) skip(first, last uint64) gaps {
	if first > last {
		return g
	}
	g = append(slices.Clone(g), gap{first, last})
	return g[max(0, len(g)-maxGaps):]
}

// fill takes one sequence out, and says whether it was in there.
func (g gaps) fill(seq uint64) (gaps, bool) {
	i := slices.IndexFunc(g, func(x gap) bool { return x.first <= seq && seq <= x.last })
	if i < 0 {
		return g, false
	}
	var rest gaps
	if x := g[i]; x.first < seq {
		rest = append(rest, gap{x.first, seq - 1})
	}
	if x := g[i]; seq < x.last {
		rest = append(rest, gap{seq + 1, x.last})
	}
	all := slices.Concat(g[:i], rest, g[i+1:])
	return all[max(0, len(all)-maxGaps):], true
}

// encode writes two varints for each gap: how far it is from the previous one, and
// how many sequences follow its first.
func (g gaps) encode() []byte {
	b, at := []byte{}, uint64(0)
	for _, x := range g {
		b = binary.AppendUvarint(b, x.first-at)
		b = binary.AppendUvarint(b, x.last-x.first)
		at = x.last
	}
	return b
}

var errGaps = errors.New("gaps are damaged")

func decodeGaps(b []byte) (gaps, error) {
	var g gaps
	for at := uint64(0); len(b) > 0; {
		from, n := binary.Uvarint(b)
		if n <= 0 || from == 0 || from > maxSequence-at {
			return nil, errGaps
		}
		b = b[n:]
		more, n := binary.Uvarint(b)
		if n <= 0 || more > maxSequence-at-from {
			return nil, errGaps
		}
		b = b[n:]
		g = append(g, gap{at + from, at + from + more})
		at += from + more
	}
	return g, nil
}

// skip notes that totals arrived for seq, so that those between are missing.
func (a *agentState) skip(e *epochState, seq uint64, c *change) {
	n := seq - e.sequence - 1
	e.gaps = e.gaps.skip(e.sequence+1, seq-1)
	e.skipped += n
	a.missing += int64(n)
	c.tally.skipped += n
	c.count(SkippedWindows, n)
}

// arrived notes that a window came that is not ahead.
func (a *agentState) arrived(e *epochState, seq uint64, c *change) {
	var filled bool
	if e.gaps, filled = e.gaps.fill(seq); !filled {
		return
	}
	e.changed = true
	a.missing = max(a.missing, 1) - 1
	c.tally.late++
	c.count(LateWindows, 1)
}

// count adds to a total of the deployment alone.
func (c *change) count(name string, n uint64) {
	if n > 0 {
		c.grown = append(c.grown, diff{&worktallypb.Series{Name: name}, float64(n)})
	}
}
