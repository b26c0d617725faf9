package reportclient

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/retry"
	"github.com/worktally/worktally/wire/agentpb"
)

// protocol is the version of our extension.
const protocol = 1

const (
	defaultInterval = 30 * time.Second
	minInterval     = time.Second
	maxInterval     = time.Hour
	maxHistory      = 500 // windows in one call
	maxReportBytes  = 1 << 20
	callGap         = 100 * time.Millisecond // between calls that drain history
)

// reporter cuts windows and delivers them.
type reporter struct {
	tally  *stats.Tally
	outbox *outbox
	// dir names the directory of an identity's outbox, "" if nothing is kept.
	dir    func(workspace uuid.UUID, agent string) string
	log    *slog.Logger
	health *health

	// before is called before a window is cut; nil does nothing.
	before func(context.Context)

	// cutting serialises what writes records or begins an epoch. It is taken
	// before mu. It guards saved, the totals that were written last.
	cutting sync.Mutex
	saved   []stats.Series

	// mu guards everything below.
	mu       sync.Mutex
	id       *identity // nil before the first manifest
	epoch    uuid.UUID
	sequence uint64
	// base is what the tally held when the epoch began: the epoch's totals are
	// what came after.
	base     map[string]float64
	interval time.Duration
	// newest are the totals of the newest record; acked are the newest that a
	// server of ours has taken in.
	newest, acked []stats.Series
	// unanswered is the record whose totals were sent last, until the answer. If
	// the answer is lost, the next hello tells whether they were taken in.
	unanswered *record
	// joint is where the epoch was taken over from an earlier process, until a
	// server of ours has told how far it knows it.
	joint     *joint
	stock     cursor
	delivered uint64 // highest sequence of the epoch whose totals a server has taken in
	ackedTo   uint64 // the same of servers of ours: the sequence of acked
	urgent    bool   // somebody waits for the newest record
	// jointKept says that the joint is on the disk, or may be.
	jointKept bool
	// unkept: the disk has a past that is no longer true. Until it has the present,
	// totals are not sent, because the next process could send them again.
	unkept bool
	// changed is closed and replaced when there is something to do.
	changed chan struct{}
}

func newReporter(t *stats.Tally, o *outbox, log *slog.Logger, h *health) *reporter {
	return &reporter{
		tally: t, outbox: o, log: log, health: h,
		dir:   func(uuid.UUID, string) string { return "" },
		epoch: uuid.New(), interval: defaultInterval, changed: make(chan struct{}),
	}
}

func (r *reporter) signalLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// identify says whose counts are cut from now on. The first owner's totals continue
// where the last process left them. Another owner gets another epoch, which begins
// where the records of the one before end.
func (r *reporter) identify(id identity) { r.own(id, false) }

// recall is identify for an agent that remembers who it was, and changes nothing if
// a server has told already.
func (r *reporter) recall(id identity) { r.own(id, true) }

func (r *reporter) own(id identity, recalled bool) {
	r.cutting.Lock()
	defer r.cutting.Unlock()
	old := r.owner()
	if old != nil && (recalled || *old == id) {
		return
	}
	if old != nil {
		r.cutLocked(false)
	}
	var own uuid.UUID // of an agent that had an owner before
	if old != nil {
		r.mu.Lock()
		own = r.epoch
		r.mu.Unlock()
	}
	found := r.outbox.open(r.dir(id.workspace, id.agent), id, own)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case old != nil:
		r.beginEpochLocked(r.newest)
	case found != nil:
		r.continueLocked(found)
	}
	r.id = &id
	r.signalLocked()
}

func (r *reporter) owner() *identity {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id
}

// continueLocked takes over the epoch of an earlier process.
func (r *reporter) continueLocked(found *restored) {
	newest := found.newest
	r.tally.Restore(newest.Totals)
	r.epoch, r.sequence, r.base = newest.Epoch, newest.Sequence, newest.Base
	r.newest, r.acked, r.stock, r.joint = newest.Totals, found.acked, found.stock, found.joint
	r.jointKept = found.joint.sequence != newest.Sequence // it is an older one, which the disk has
}

// beginEpochLocked starts an epoch whose totals are what is counted beyond base.
func (r *reporter) beginEpochLocked(base []stats.Series) {
	r.base, r.acked = byKey(base), base
	r.epoch, r.sequence, r.delivered, r.ackedTo, r.joint = uuid.New(), 0, 0, 0, nil
	r.signalLocked()
}

// setInterval takes in what the server asks for.
func (r *reporter) setInterval(d time.Duration) {
	d = min(max(d, minInterval), maxInterval)
	r.mu.Lock()
	defer r.mu.Unlock()
	if d != r.interval {
		r.log.Info("report interval set", "interval_seconds", d.Seconds())
		r.interval = d
		r.signalLocked()
	}
}

// session delivers records over one session until it ends.
func (r *reporter) session(ctx context.Context, api agentpb.DRPCAgentClient, reconnect bool) error {
	ours, err := r.hello(ctx, api)
	if err != nil {
		return err
	}
	if reconnect {
		if err := r.scatter(ctx); err != nil {
			return err
		}
	}
	deliver := r.deliverStock
	if ours {
		deliver = r.deliverOurs
	}
	for {
		if err := retry.Sleep(ctx, callGap+rand.N(callGap/2)); err != nil {
			return err
		}
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		more, err := deliver(ctx, api)
		if err != nil {
			r.health.failed.Add(1)
			return err
		}
		if more {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// scatter waits for a random moment of the interval, because a restarted server
// must not get everybody's report at once. What is urgent does not wait.
func (r *reporter) scatter(ctx context.Context) error {
	r.mu.Lock()
	moment := time.NewTimer(rand.N(r.interval))
	r.mu.Unlock()
	defer moment.Stop()
	for {
		r.mu.Lock()
		urgent, changed := r.urgent, r.changed
		r.mu.Unlock()
		if urgent {
			return nil
		}
		select {
		case <-moment.C:
			return nil
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// call makes one UpdateStats call and takes in the interval of the answer.
func (r *reporter) call(ctx context.Context, api agentpb.DRPCAgentClient, req *agentpb.UpdateStatsRequest) (*agentpb.UpdateStatsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := api.UpdateStats(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("update stats: %w", err)
	}
	if d := resp.GetReportInterval(); d != nil {
		if err := d.CheckValid(); err != nil || d.AsDuration() <= 0 {
			r.log.Warn("the server names no usable report interval", "err", err)
		} else {
			r.setInterval(d.AsDuration())
		}
	}
	return resp, nil
}

// succeeded notes an acknowledged report.
func (r *reporter) succeeded() {
	r.health.ok.Add(1)
	r.health.lastSuccess.Store(time.Now().UnixMicro())
}

// noteDelivered remembers the newest record whose totals a server has taken in; one
// that is not ours has taken in a part of them. History says nothing of totals: where
// the disk has failed, an earlier process has used its number for another window.
func (r *reporter) noteDelivered(record *record, ours bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if record.Totals == nil || record.Epoch != r.epoch {
		return
	}
	if ours && record.Sequence > r.ackedTo {
		r.acked, r.ackedTo = record.Totals, record.Sequence
	}
	if record.Sequence > r.delivered {
		r.delivered = record.Sequence
		r.signalLocked()
	}
}
