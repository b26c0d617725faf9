package ledger

import (
	"log/slog"
	"time"
)

const (
	// diskLogEvery is how often a full or broken disk is told.
	diskLogEvery = time.Minute
	// diskQuiet is how long all must be stored before the trouble is called over:
	// when a disk is nearly full, small writes still succeed.
	diskQuiet = 10 * time.Second
)

// diskLog tells of a disk that refuses reports in few lines, although some may
// still be stored. It belongs to one goroutine.
type diskLog struct {
	log           *slog.Logger
	failures      int
	failed, wrote time.Time // the last failure, the last line
}

func (d *diskLog) refused(err error, submissions int) {
	d.failures++
	d.failed = time.Now()
	if d.failures > 1 && time.Since(d.wrote) < diskLogEvery {
		return
	}
	d.wrote = d.failed
	d.log.Error("the database's disk refuses reports; agents keep them until it has room", "err", err, "submissions", submissions, "failures", d.failures)
}

func (d *diskLog) stored() {
	if d.failures == 0 || time.Since(d.failed) < diskQuiet {
		return
	}
	d.log.Info("the database's disk takes reports again", "failures", d.failures)
	d.failures = 0
}
