package ledger

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire/worktallypb"
)

// Why a window is refused for good, as told to the agent in
// Acknowledgement.refused.
const (
	RefusedTotalsFell    = "totals_fell"
	RefusedBadSequence   = "bad_sequence"
	RefusedClosedEpoch   = "closed_epoch"
	RefusedBadEpoch      = "bad_epoch"
	RefusedTooManySeries = "too_many_series"
	RefusedDuplicate     = "duplicate_series"
	RefusedForgotten     = "deleted_workspace"
)

// ErrClosed is returned by Commit once Run has ended.
var ErrClosed = errors.New("the ledger is closed")

// Submission is one report of one agent, ready to be stored.
type Submission struct {
	WorkspaceID  uuid.UUID
	AgentName    string
	OwnerID      uuid.UUID
	TemplateName string
	// Arrival is when the report was received, by the server's clock.
	Arrival time.Time
	// Interval is the report interval that the agent was told.
	Interval time.Duration
	// OlderSession: the agent has a newer session, so this one delivers totals
	// and history, and changes no gauge.
	OlderSession bool
	// Windows come newest first. Names, sizes and identity were checked by the
	// caller; they are not changed here and not kept after Commit returned.
	Windows []*worktallypb.Window
	// NoOlderEpochPending: the agent holds nothing older than the epoch of the
	// first window.
	NoOlderEpochPending bool
	// Stock is the report of a stock agent; Windows is empty then.
	Stock *StockReport
}

// StockReport is what one report of a stock agent says.
type StockReport struct {
	// RxBytes and TxBytes of this report alone, for the byte gauges.
	RxBytes, TxBytes uint64
	// Added are the deltas of this report under the names of their totals; they
	// are added once.
	Added []*worktallypb.Series
	// Counters are absolute; a value lower than the last one was counted from 0
	// again.
	Counters []*worktallypb.Series
	// Sent are the counters that the agent sent, taken or not; they tell whether it
	// has restarted.
	Sent   []*worktallypb.Series
	Gauges *worktallypb.Gauges
}

// Outcome tells what became of a submission. It is the caller's.
type Outcome struct {
	// Acknowledged has one entry for each window, in order.
	Acknowledged []*worktallypb.Acknowledgement
	// Latest is the agent's state after the commit.
	Latest Latest
	// Newest: the first window (or the stock report) became the agent's newest
	// one. Otherwise only totals and history may have changed.
	Newest bool
}

// Latest is the newest state of one agent. Times are the server's.
type Latest struct {
	WorkspaceID  uuid.UUID
	AgentName    string
	OwnerID      uuid.UUID
	TemplateName string
	// Totals are the sums over all epochs of the agent, per series.
	Totals []*worktallypb.Series
	// MissingWindows are those that newer totals passed over and that never came;
	// their counts are in the totals, their history is not known.
	MissingWindows uint64
	// Epoch and Sequence of the newest window; the zero epoch is a stock agent.
	Epoch    uuid.UUID
	Sequence uint64
	// Gauges of the newest window, nil if it had none.
	Gauges *worktallypb.Gauges
	// End and Length of the newest window.
	End    time.Time
	Length time.Duration
	// Arrival of the newest window; expiry counts from here.
	Arrival  time.Time
	Interval time.Duration
	// Recent are the windows that were the newest when they arrived and ended at
	// most 60 s before the last of them, oldest first, at most 64.
	Recent []RecentWindow
}

// RecentWindow is what the byte gauges need of a window.
type RecentWindow struct {
	End     time.Time
	RxBytes uint64
	TxBytes uint64
}

// HistoryRow is the presence of one agent in one hour.
type HistoryRow struct {
	WorkspaceID  uuid.UUID
	AgentName    string
	OwnerID      uuid.UUID
	TemplateName string
	// Hour is its first instant.
	Hour time.Time
	// Minutes has, for each app name, bit m set if a session of the app was open
	// at the first instant of minute m.
	Minutes map[string]uint64
}
