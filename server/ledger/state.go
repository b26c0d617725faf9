package ledger

import (
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire/worktallypb"
)

const (
	// maxEpochs bounds the open epochs of one agent.
	maxEpochs = 64
	// maxClosedEpochs bounds how many closed ones are remembered.
	maxClosedEpochs = 1024
	// maxSequence is the largest sequence: what the databases can store.
	maxSequence = math.MaxInt64
	// maxJump is the largest step between two sequences that is believed: two years of
	// a window a second.
	maxJump = 1 << 26
	// maxLength is the longest window that is believed.
	maxLength = 24 * time.Hour
	// retention is how long history is kept.
	retention = 35 * 24 * time.Hour
	// maxAge is the largest age of a window that is believed: no history is older.
	maxAge = retention + 24*time.Hour
)

// agentState is what is stored about one agent, as far as a submission needs it.
// Totals over all epochs are others + the totals of the anchor. The anchor is
// the epoch that was created last, so it never goes back to an older one and the
// sum never has to be taken apart.
type agentState struct {
	exists     bool
	forgotten  bool // the workspace was deleted
	revision   int64
	anchor     uuid.UUID
	created    int64
	openEpochs int64
	others     []*worktallypb.Series
	missing    int64  // windows passed over that never came
	latest     Latest // without Totals
	hour       int64
	minutes    minutes

	// epochs holds those that the submission names, the anchor, and, if some
	// have to be closed, all open ones (then without totals).
	epochs map[uuid.UUID]*epochState
}

// epochState is one epoch of an agent.
type epochState struct {
	id        uuid.UUID
	exists    bool // in the database
	ordinal   int64
	sequence  uint64
	was       uint64 // sequence in the database: the guard of the write
	skipped   uint64
	gaps      gaps
	closed    bool
	arrived   int64
	totals    []*worktallypb.Series
	absolutes []*worktallypb.Series // the last ones of a stock agent
	witnesses []*worktallypb.Series // its largest counters, see restarted
	changed   bool
}

// tally is what one submission adds to the ledger's own metrics; it is added
// only after the commit.
type tally struct {
	committed, resent, history int
	refused                    map[string]int
	skipped                    uint64
	late                       int
	closed                     int
	droppedHistory             int
	droppedSeries              int
}

// change is the effect of a submission on an agentState.
type change struct {
	outcome Outcome
	grown   []diff
	marks   map[int64]minutes // by hour
	closing []*epochState
	tally   tally
}
