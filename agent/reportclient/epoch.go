package reportclient

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// hello asks for the interval and finds out whether the server is one of ours,
// and whether it has what was sent without an answer.
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
	known := ext.GetLastSequence()
	if sent := r.answered(); sent != nil && sent.Epoch == epoch && known >= sent.Sequence {
		r.noteDelivered(sent, true)
	}
	if known > sequence {
		r.log.Warn("the server knows more of this epoch than the agent; starting a new one", "server_sequence", known, "sequence", sequence)
		r.newEpoch(epoch)
	}
	return true, nil
}

// answered returns the record that waited for an answer, and forgets it.
func (r *reporter) answered() *Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.unanswered
	r.unanswered = nil
	return sent
}

// newEpoch starts an epoch in place of old, whose totals the server will not
// take any more. Everything that no server has taken in belongs to the new one,
// so the totals of the old one must not be sent again: a server that took them
// after all would count them twice.
func (r *reporter) newEpoch(old uuid.UUID) {
	r.cutting.Lock()
	defer r.cutting.Unlock()
	r.mu.Lock()
	stale := r.epoch != old
	if !stale {
		r.beginEpochLocked(r.acked)
	}
	r.mu.Unlock()
	if stale {
		return
	}
	var withdrawn []RecordID
	for _, record := range r.outbox.Pending(0) {
		if record.Epoch == old {
			withdrawn = append(withdrawn, record.ID())
		}
	}
	if err := r.outbox.Acknowledge(withdrawn); err != nil {
		r.log.Error("withdraw report windows of an ended epoch", "err", err)
	}
	r.tally.Drop(stats.DropReportHistory, len(withdrawn))
}
