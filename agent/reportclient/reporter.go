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
	"github.com/worktally/worktally/wire/worktallypb"
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

	// cutting serialises cuts, which write to the outbox. It is taken before mu.
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
	// acked are the newest totals of the tally that a server has acknowledged.
	acked     []stats.Series
	stock     cursor
	delivered uint64 // highest sequence that left the outbox
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

func (r *reporter) identify(id identity) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.id = &id
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
			r.cutNow()
		case <-changed:
		case <-ctx.Done():
			due.Stop()
			return
		}
		due.Stop()
	}
}

// cutNow closes the window and returns the sequence of its record, 0 if nobody
// owns it yet.
func (r *reporter) cutNow() uint64 {
	r.cutting.Lock()
	defer r.cutting.Unlock()
	record := r.nextRecord()
	if record == nil {
		return 0
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
	r.signalLocked()
	return record.Sequence
}

func (r *reporter) nextRecord() *Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.id == nil {
		return nil
	}
	w := r.tally.CutWindow()
	r.sequence++
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
	r.mu.Lock()
	interval := r.interval
	r.mu.Unlock()
	if reconnect {
		// A restarted server must not get everybody's report at once.
		if err := retry.Sleep(ctx, rand.N(interval)); err != nil {
			return err
		}
	}
	deliver := r.deliverStock
	if ours {
		deliver = r.deliverOurs
	}
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		more, err := deliver(ctx, api)
		if err != nil {
			r.health.failed.Add(1)
			return err
		}
		if more {
			if err := retry.Sleep(ctx, callGap+rand.N(callGap/2)); err != nil {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hello asks for the interval and finds out whether the server is one of ours.
func (r *reporter) hello(ctx context.Context, api agentpb.DRPCAgentClient) (ours bool, err error) {
	r.mu.Lock()
	epoch, sequence := r.epoch, r.sequence
	r.mu.Unlock()
	resp, err := r.call(ctx, api, &agentpb.UpdateStatsRequest{
		Worktally: &worktallypb.ReportRequest{Protocol: protocol, Epoch: epoch[:], LastSequence: sequence},
	})
	if err != nil {
		return false, fmt.Errorf("say hello: %w", err)
	}
	ext := resp.GetWorktally()
	if ext.GetProtocol() == 0 {
		return false, nil
	}
	if ext.GetLastSequence() > sequence {
		r.log.Warn("the server knows more of this epoch than the agent; starting a new one",
			"server_sequence", ext.GetLastSequence(), "sequence", sequence)
		r.newEpoch(epoch)
	}
	return true, nil
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

// newEpoch starts an epoch in place of old, whose totals the server will not
// take any more. Everything that no server has acknowledged belongs to the new
// one.
func (r *reporter) newEpoch(old uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch != old {
		return
	}
	r.base = byKey(r.acked)
	r.epoch, r.sequence, r.delivered = uuid.New(), 0, 0
}

// succeeded notes an acknowledged report.
func (r *reporter) succeeded() {
	r.health.ok.Add(1)
	r.health.lastSuccess.Store(time.Now().UnixMicro())
}

// noteDelivered remembers the newest record that a server has taken in.
func (r *reporter) noteDelivered(record *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if record.Epoch == r.epoch && record.Sequence > r.delivered {
		r.delivered = record.Sequence
		if record.Totals != nil {
			r.acked = record.Totals
		}
		r.signalLocked()
	}
}

// FlushReport cuts a window and waits until the server has acknowledged it.
func (c *Client) FlushReport(ctx context.Context) error {
	r := c.reporter
	sequence := r.cutNow()
	if sequence == 0 {
		return errors.New("the agent has no manifest yet")
	}
	for {
		r.mu.Lock()
		done, changed := r.delivered >= sequence, r.changed
		r.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the last report: %w", ctx.Err())
		}
	}
}
