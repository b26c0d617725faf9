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
	if r.confirm(epoch, known) && known > sequence {
		r.log.Warn("the server knows more of this epoch than the agent; starting a new one", "server_sequence", known, "sequence", sequence)
		r.newEpoch(epoch, nil)
	}
	return true, nil
}

// confirm compares an epoch that was taken over from an earlier process with what
// the server knows of it, once. ok says that the process may go on with it. If the
// server has more than the disk, because the disk failed, or is an old copy, all that
// was restored is part of it; what this process has counted belongs to a new epoch,
// whatever it has cut in the old one meanwhile.
func (r *reporter) confirm(epoch uuid.UUID, known uint64) (ok bool) {
	r.mu.Lock()
	j := r.joint
	if j == nil || r.epoch != epoch {
		r.mu.Unlock()
		return true
	}
	r.joint, r.unkept = nil, r.jointKept
	ours := known < j.sequence || known == j.sequence && j.cut
	if totals := j.knownAs(known); totals != nil {
		r.acked = totals
	}
	r.mu.Unlock()
	if ours {
		return true
	}
	r.log.Warn("the server knows more of this epoch than the disk; starting a new one", "server_sequence", known, "sequence", j.sequence)
	r.newEpoch(epoch, j.totals)
	return false
}

// knownAs returns what a server has taken in that knows the epoch up to a sequence, nil
// if that is not newer than what it has acknowledged, or not known here.
func (j *joint) knownAs(sequence uint64) []stats.Series {
	if sequence == j.sequence && j.cut {
		return j.totals
	}
	for _, s := range j.sent {
		if s.sequence == sequence {
			return s.totals
		}
	}
	return nil
}

// answered returns the record that waited for an answer, and forgets it.
func (r *reporter) answered() *record {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.unanswered
	r.unanswered = nil
	return sent
}

// newEpoch starts an epoch in place of old, whose totals the server will not
// take any more. Everything beyond base, nil for what a server has acknowledged,
// belongs to the new one, so the totals of the old one must not be sent again: a
// server that took them after all would count them twice.
func (r *reporter) newEpoch(old uuid.UUID, base []stats.Series) {
	r.cutting.Lock()
	defer r.cutting.Unlock()
	opened := r.outbox.opened()
	r.mu.Lock()
	stale := r.epoch != old
	refused := base == nil
	if refused {
		base = r.acked
	}
	if !stale {
		r.unkept = r.unkept || refused && opened
		r.beginEpochLocked(base)
	}
	r.mu.Unlock()
	if stale {
		return
	}
	var withdrawn []recordID
	pending, _ := r.outbox.pending(0)
	for _, record := range pending {
		if record.Epoch == old {
			withdrawn = append(withdrawn, record.id())
		}
	}
	r.outbox.acknowledge(withdrawn)
	r.tally.Drop(stats.DropReportHistory, len(withdrawn))
}
