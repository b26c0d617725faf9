package reportclient

import (
	"context"
	"slices"
	"time"

	"github.com/worktally/worktally/agent/stats"
)

// checkpointEvery is how often what was counted is kept. A crash costs no more than 5 s
// of it; half a second of them is for the disk.
const checkpointEvery = 4500 * time.Millisecond

// cut closes a window every interval until the context ends, and keeps what was
// counted in between. Before there is an owner nothing is cut.
func (r *reporter) cut(ctx context.Context) {
	last := time.Now()
	keep := time.NewTicker(checkpointEvery)
	defer keep.Stop()
	var measured <-chan struct{} // the gauges of a window that is due; nil if none is
	for {
		r.mu.Lock()
		interval, known, changed := r.interval, r.id != nil, r.changed
		r.mu.Unlock()
		due := time.NewTimer(time.Until(last.Add(interval)))
		fire := due.C
		if !known || measured != nil {
			fire = nil
		}
		select {
		case <-fire:
			last = time.Now()
			measured = r.measure(ctx)
		case <-measured:
			measured = nil
			r.cutNow(false)
		case <-keep.C:
			r.checkpoint(false)
		case <-changed:
		case <-ctx.Done():
			due.Stop()
			if measured != nil {
				<-measured
			}
			return
		}
		due.Stop()
	}
}

// measure has the gauges of a window measured. That may take as long as a peer takes
// that does not answer, and checkpoints do not wait for it.
func (r *reporter) measure(ctx context.Context) (done <-chan struct{}) {
	measured := make(chan struct{})
	if r.before == nil {
		close(measured)
		return measured
	}
	go func() { // cut waits for it
		defer close(measured)
		r.before(ctx)
	}()
	return measured
}

// close keeps what is left and ends the use of the outbox. Nobody may use the
// reporter any more: a part of a session would open the directory once more.
func (r *reporter) close() {
	r.checkpoint(false)
	r.outbox.close()
}

// checkpoint keeps what a window cut now would hold, if anything was counted since the
// last time, or always. What was only acknowledged since is known to the server, and
// among what the state says was on its way.
func (r *reporter) checkpoint(always bool) {
	r.cutting.Lock()
	defer r.cutting.Unlock()
	if r.owner() == nil || !r.outbox.wanted() {
		return
	}
	r.mu.Lock()
	w := r.tally.Peek()
	next, at := r.recordLocked(w, r.sequence+1), r.positionLocked()
	r.mu.Unlock()
	if !always && sameCounts(w.Totals, r.saved) {
		return
	}
	dropped, f := r.outbox.checkpoint(next, at)
	r.noteKept(dropped, f, w.Totals, at)
}

// noteKept notes what became of a state, and what had to go for it. It is called by
// the holder of cutting.
func (r *reporter) noteKept(dropped int, f fate, totals []stats.Series, at position) {
	r.tally.Drop(stats.DropReportHistory, dropped)
	r.mu.Lock()
	defer r.mu.Unlock()
	if f == isKept {
		r.saved, r.jointKept = totals, false
		if r.unkept {
			r.unkept = false
			r.signalLocked()
		}
	}
	if f != notKept && at.joint != nil {
		r.jointKept = true
		r.unkept = r.unkept || r.joint == nil // a server has told meanwhile
	}
}

func sameCounts(a, b []stats.Series) bool {
	return slices.EqualFunc(a, b, func(x, y stats.Series) bool { return x.Value == y.Value })
}

// cutNow closes the window and returns its record, nil if nobody owns it yet.
// An urgent one does not wait for its moment after a reconnect.
func (r *reporter) cutNow(urgent bool) *record {
	r.cutting.Lock()
	defer r.cutting.Unlock()
	return r.cutLocked(urgent)
}

// cutLocked is cutNow for the holder of cutting.
func (r *reporter) cutLocked(urgent bool) *record {
	r.mu.Lock()
	if r.id == nil {
		r.mu.Unlock()
		return nil
	}
	w, at := r.tally.CutWindow(), r.positionLocked()
	r.sequence++
	r.newest = w.Totals
	cut := r.recordLocked(w, r.sequence)
	r.mu.Unlock()
	dropped, f := r.outbox.append(cut, at)
	r.noteKept(dropped, f, w.Totals, at)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.urgent = r.urgent || urgent
	r.signalLocked()
	return cut
}

// positionLocked is where the reporter stands before the next record.
func (r *reporter) positionLocked() position {
	return position{acked: r.acked, stock: r.stock, joint: r.joint, sent: r.sentLocked()}
}

// sentLocked returns what a server may have taken in, or be about to, and has not
// acknowledged: the record on its way, and the newest, which the next supersedes.
// Before a server has told where the joint is nothing was sent but what that names.
func (r *reporter) sentLocked() (sent []sentTotals) {
	if r.joint != nil {
		return r.joint.sent
	}
	if u := r.unanswered; u != nil && u.Epoch == r.epoch && u.Sequence > r.ackedTo && u.Sequence != r.sequence {
		sent = append(sent, sentTotals{u.Sequence, u.Totals})
	}
	if r.sequence > r.ackedTo {
		sent = append(sent, sentTotals{r.sequence, r.newest})
	}
	return sent
}

func (r *reporter) recordLocked(w stats.Window, sequence uint64) *record {
	return &record{
		Workspace: r.id.workspace, Agent: r.id.agent, Epoch: r.epoch, Sequence: sequence, Base: r.base,
		Length: w.End.Sub(w.Start), End: w.End, Totals: w.Totals, Gauges: w.Gauges, RxBytes: w.RxBytes, TxBytes: w.TxBytes,
	}
}
