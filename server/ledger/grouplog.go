package ledger

import (
	"log/slog"
	"time"
)

// groupLogEvery is how often it is told that groups fail.
const groupLogEvery = time.Minute

// groupLog tells of groups that could not be committed together, in few lines: one
// agent that sends what cannot be stored makes every group fail that it is in. The
// counter of failures misses none. It belongs to one goroutine.
type groupLog struct {
	log      *slog.Logger
	failures int // since the last line
	wrote    time.Time
}

func (g *groupLog) failed(err error, submissions int) {
	g.failures++
	if !g.wrote.IsZero() && time.Since(g.wrote) < groupLogEvery {
		return
	}
	g.log.Warn("group commit failed; trying its submissions alone", "err", err, "submissions", submissions, "failures", g.failures)
	g.wrote, g.failures = time.Now(), 0
}
