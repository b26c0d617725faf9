package reportclient

import (
	"context"
	"errors"
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
	outbox Outbox
	log    *slog.Logger
	health *health

	// before is called before a window is cut; nil does nothing.
	before func(context.Context)

	// cutting serialises what writes records or begins an epoch. It is taken
	// before mu.
	cutting sync.Mutex

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
	unanswered *Record
	stock      cursor
	delivered  uint64 // highest sequence of the epoch that a server has taken in
	urgent     bool   // somebody waits for the newest record
	// changed is closed and replaced when there is something to do.
	changed chan struct{}
}

func newReporter(t *stats.Tally, o Outbox, log *slog.Logger, h *health) *reporter {
	return &reporter{
		tally: t, outbox: o, log: log, health: h,
		epoch: uuid.New(), interval: defaultInterval, changed: make(chan struct{}),
	}
}

func (r *reporter) signalLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// identify says whose counts are cut from now on. Another owner gets another
// epoch, which begins where the records of the one before end.
func (r *reporter) identify(id identity) {
	r.cutting.Lock()
	defer r.cutting.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.id != nil && *r.id != id {
		r.beginEpochLocked(r.newest)
	}
	r.id = &id
	r.signalLocked()
}

// beginEpochLocked starts an epoch whose totals are what is counted beyond base.
func (r *reporter) beginEpochLocked(base []stats.Series) {
	r.base, r.acked = byKey(base), base
	r.epoch, r.sequence, r.delivered = uuid.New(), 0, 0
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

// cut closes a window every interval until the context ends. Before the first
// manifest nothing is cut: counts have no owner yet.
func (r *reporter) cut(ctx context.Context) {
	last := time.Now()
	for {
		r.mu.Lock()
		interval, known, changed := r.interval, r.id != nil, r.changed
		r.mu.Unlock()
		due := time.NewTimer(time.Until(last.Add(interval)))
		fire := due.C
		if !known {
			fire = nil
		}
		select {
		case <-fire:
			last = time.Now()
			if r.before != nil {
				r.before(ctx)
			}
			r.cutNow(false)
		case <-changed:
		case <-ctx.Done():
			due.Stop()
			return
		}
		due.Stop()
	}
}

// cutNow closes the window and returns its record, nil if nobody owns it yet.
// An urgent one does not wait for its moment after a reconnect.
func (r *reporter) cutNow(urgent bool) *Record {
	r.cutting.Lock()
	defer r.cutting.Unlock()
	record := r.nextRecord()
	if record == nil {
		return nil
	}
	dropped, err := r.outbox.Append(record)
	if err != nil {
		// The window's totals are in the next record again.
		r.log.Error("keep report window", "err", err)
		dropped++
	}
	r.tally.Drop(stats.DropReportHistory, dropped)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.urgent = r.urgent || urgent
	r.signalLocked()
	return record
}

func (r *reporter) nextRecord() *Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.id == nil {
		return nil
	}
	w := r.tally.CutWindow()
	r.sequence++
	r.newest = w.Totals
	return &Record{
		Workspace: r.id.workspace, Agent: r.id.agent, Epoch: r.epoch, Sequence: r.sequence, Base: r.base,
		Length: w.End.Sub(w.Start), End: w.End, Totals: w.Totals, Gauges: w.Gauges, RxBytes: w.RxBytes, TxBytes: w.TxBytes,
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

// noteDelivered remembers the newest record that a server has taken in. Only one
// of ours has taken in its totals.
func (r *reporter) noteDelivered(record *Record, ours bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if record.Epoch != r.epoch || record.Sequence <= r.delivered {
		return
	}
	r.delivered = record.Sequence
	if ours && record.Totals != nil {
		r.acked = record.Totals
	}
	r.signalLocked()
}

// FlushReport cuts a window and waits until a server has taken it in. One that a
// server refuses is cut once more, in the epoch that follows the refusal.
func (c *Client) FlushReport(ctx context.Context) error {
	r := c.reporter
	record := r.cutNow(true)
	if record == nil {
		return errors.New("the agent has no manifest yet")
	}
	for again := true; ; {
		r.mu.Lock()
		moved, done, changed := r.epoch != record.Epoch, r.delivered >= record.Sequence, r.changed
		r.mu.Unlock()
		switch {
		case moved && again:
			record, again = r.cutNow(true), false
			continue
		case moved:
			return errors.New("the server refuses the last report")
		case done:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the last report: %w", ctx.Err())
		}
	}
}
