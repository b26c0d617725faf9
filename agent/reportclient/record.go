package reportclient

import (
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/durable"
	"github.com/worktally/worktally/wire/worktallypb"
)

// identity is whose counts a record holds.
type identity struct {
	workspace uuid.UUID
	agent     string
}

// record is one report window as the outbox keeps it.
type record struct {
	Workspace uuid.UUID
	Agent     string
	Epoch     uuid.UUID
	Sequence  uint64
	Length    time.Duration
	// End carries a monotonic reading of this process.
	End time.Time
	// Totals are the tally's, cumulative over all epochs; nil in a record that a
	// newer one of its epoch has superseded: then it is history.
	Totals []stats.Series
	// Base is what the tally held when the epoch began, by series key: the
	// epoch's own totals are Totals minus Base. It is never changed.
	Base             map[string]float64
	Gauges           stats.Gauges
	RxBytes, TxBytes uint64
	// found says that another process cut it, whose epoch this one does not go on with.
	found bool
	// kept are the gauges of a record that was read from the disk, instead.
	kept *worktallypb.Gauges
	// logged names the record in the log of history, nil if it is not there. The
	// outbox guards it; nothing else changes in a record that the outbox has.
	logged *durable.ID
}

// recordID names a record.
type recordID struct {
	Epoch    uuid.UUID
	Sequence uint64
}

// id returns the record's name.
func (r *record) id() recordID { return recordID{r.Epoch, r.Sequence} }

// owner says whose counts it holds.
func (r *record) owner() identity { return identity{r.Workspace, r.Agent} }

// base is what the tally held of a series when the record's epoch began.
func (r *record) base(s stats.Series) float64 {
	if len(r.Base) == 0 {
		return 0
	}
	return r.Base[s.Key()]
}

// history returns the record without its totals.
func (r *record) history() *record {
	h := *r
	h.Totals, h.Base = nil, nil
	return &h
}

// position is where the reporter stands; it is kept with the newest totals.
type position struct {
	// acked are the newest totals that a server of ours has acknowledged.
	acked []stats.Series
	stock cursor
	// joint is where this process took the epoch over, nil once a server of ours has
	// told how far it knows it.
	joint *joint
	// sent are records of the epoch that a server may have taken in without an answer;
	// of the joint, if there is one.
	sent []sentTotals
}

// sentTotals are the totals of a record of the epoch in use. If a server says that it
// is the last it knows, they are what it has taken in.
type sentTotals struct {
	sequence uint64
	totals   []stats.Series
}

// joint is what an earlier process has left of an epoch.
type joint struct {
	sequence uint64
	// cut says that the record was cut; otherwise nobody was sent it.
	cut    bool
	totals []stats.Series
	// sent are records before it that a server may have taken in.
	sent []sentTotals
}
