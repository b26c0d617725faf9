package reportclient

import (
	"sync/atomic"
	"time"
)

// health is how reporting itself fares.
type health struct {
	connected            atomic.Bool
	sessions, dialErrors atomic.Uint64
	ok, failed, refused  atomic.Uint64
	lastSuccess          atomic.Int64 // Unix microseconds, 0: never
}

// Health is a snapshot of how reporting fares, for the agent's own page.
type Health struct {
	Connected            bool
	Sessions, DialErrors uint64
	// ReportsOK, ReportsFailed and ReportsRefused count report calls that were
	// acknowledged, that got no answer, and in which a window was refused.
	ReportsOK, ReportsFailed, ReportsRefused uint64
	// LastSuccess is the zero time before the first acknowledgement.
	LastSuccess time.Time
	Records     int
	// OldestRecord is the zero time if there is no record.
	OldestRecord time.Time
	// OutboxDurable says that what was counted is on the disk.
	OutboxDurable bool
	// OutboxBytes is how long the history on the disk is.
	OutboxBytes int64
	// OutboxWriteErrors counts writes that failed, and OutboxSetAside files and
	// records that could not be read.
	OutboxWriteErrors, OutboxSetAside uint64
}

// Health returns how reporting fares now.
func (c *Client) Health() Health {
	h := Health{
		Connected: c.health.connected.Load(),
		Sessions:  c.health.sessions.Load(), DialErrors: c.health.dialErrors.Load(),
		ReportsOK: c.health.ok.Load(), ReportsFailed: c.health.failed.Load(), ReportsRefused: c.health.refused.Load(),
	}
	if us := c.health.lastSuccess.Load(); us != 0 {
		h.LastSuccess = time.UnixMicro(us)
	}
	o := c.reporter.outbox
	h.Records, h.OutboxBytes, h.OldestRecord = o.state()
	h.OutboxDurable, h.OutboxWriteErrors, h.OutboxSetAside = o.durable.Load(), o.writeErrors.Load(), o.setAside.Load()
	return h
}
