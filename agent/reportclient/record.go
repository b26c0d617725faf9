package reportclient

import (
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/agent/stats"
)

// identity is whose counts a record holds.
type identity struct {
	workspace uuid.UUID
	agent     string
}

// Record is one report window as the outbox keeps it.
type Record struct {
	Workspace uuid.UUID
	Agent     string
	Epoch     uuid.UUID
	Sequence  uint64
	Length    time.Duration
	// End carries a monotonic reading within a process.
	End time.Time
	// Totals are the tally's, cumulative over all epochs; nil in a record that a
	// newer one of its epoch has superseded: then it is history.
	Totals []stats.Series
	// Base is what the tally held when the epoch began, by series key: the
	// epoch's own totals are Totals minus Base. It is never changed.
	Base             map[string]float64
	Gauges           stats.Gauges
	RxBytes, TxBytes uint64
}

// RecordID names a record.
type RecordID struct {
	Epoch    uuid.UUID
	Sequence uint64
}

// ID returns the record's name.
func (r *Record) ID() RecordID { return RecordID{r.Epoch, r.Sequence} }

// Outbox keeps records until the server has acknowledged them. Its methods are
// safe for concurrent use.
type Outbox interface {
	// Append adds the newest record. The totals of older records of its epoch are
	// of no further use. It returns how many records of history had to be dropped
	// to make room; totals are never dropped.
	Append(*Record) (dropped int, err error)
	// Pending returns the records that hold totals, newest first, and then at most
	// history others, oldest first. The caller must not change them.
	Pending(history int) []*Record
	// Acknowledge removes the records.
	Acknowledge([]RecordID) error
	// State says how many records there are, and when the oldest ended.
	State() (records int, oldest time.Time)
}
