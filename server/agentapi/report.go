package agentapi

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// protocol is the version of our extension.
const protocol = 1

// Why a window is refused before it reaches the ledger; the rest are the
// ledger's.
const (
	refusedForeignIdentity = "foreign_identity"
	refusedMalformed       = "malformed"
	refusedTooMany         = "too_many_windows"
)

// maxWindows bounds the windows of one call.
const maxWindows = 512

// UpdateStats takes a report in. It answers after the commit: an agent that got
// an answer may forget what it sent, one that got none sends it again.
func (a *session) UpdateStats(ctx context.Context, r *agentpb.UpdateStatsRequest) (*agentpb.UpdateStatsResponse, error) {
	resp := &agentpb.UpdateStatsResponse{ReportInterval: durationpb.New(a.s.o.ReportInterval)}
	ext := r.GetWorktally()
	result := "ok"
	var err error
	if r.GetStats() == nil && len(ext.GetWindows()) == 0 {
		result = "hello"
		err = a.answerHello(ctx, ext, resp)
	} else {
		err = a.takeReport(ctx, r.GetStats(), ext, resp)
	}
	if err != nil {
		a.s.c.add("worktally_reports_total", "result", "error", 1)
		return nil, err
	}
	a.s.c.add("worktally_reports_total", "result", result, 1)
	return resp, nil
}

// takeReport stores and shows a report. One without our extension is that of a
// stock agent; one with it counts by its windows alone.
func (a *session) takeReport(ctx context.Context, stock *agentpb.Stats, ext *worktallypb.ReportRequest, resp *agentpb.UpdateStatsResponse) error {
	done, err := a.open.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer done()
	submission := a.submission()
	checker := a.s.newChecker(a.id.Workspace.ID)
	var refused []*worktallypb.Acknowledgement
	if ext != nil {
		submission.NoOlderEpochPending = ext.GetNoOlderEpochPending()
		submission.Windows, refused = a.checkWindows(checker, ext.GetWindows())
	} else {
		submission.Stock = stockReport(checker, stock)
	}
	checker.done()
	var outcome ledger.Outcome
	if len(submission.Windows) > 0 || submission.Stock != nil {
		if outcome, err = a.s.o.Ledger.Commit(ctx, submission); err != nil {
			return err
		}
		a.s.o.Publisher.Reported(a.id, a.known, outcome)
	}
	if ext == nil {
		return nil
	}
	resp.Worktally = &worktallypb.ReportResponse{Protocol: protocol, Acknowledged: append(outcome.Acknowledged, refused...)}
	for _, ack := range resp.Worktally.Acknowledged {
		if reason := ack.GetRefused(); reason != "" {
			a.s.c.add("worktally_rejected_windows_total", "reason", reason, 1)
		}
	}
	return nil
}

func (a *session) answerHello(ctx context.Context, ext *worktallypb.ReportRequest, resp *agentpb.UpdateStatsResponse) error {
	if ext == nil {
		return nil
	}
	resp.Worktally = &worktallypb.ReportResponse{Protocol: protocol}
	epoch, err := wire.UUID("epoch", ext.GetEpoch())
	if err != nil {
		return err
	}
	// A report of an older session may be about to be stored.
	done, err := a.open.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer done()
	resp.Worktally.LastSequence, err = a.s.o.Ledger.LastSequence(ctx, a.id.Workspace.ID, a.id.Agent.Name, epoch)
	return err
}

func (a *session) submission() ledger.Submission {
	return ledger.Submission{
		WorkspaceID: a.id.Workspace.ID, AgentName: a.id.Agent.Name, OwnerID: a.id.Owner.ID, TemplateName: a.id.Workspace.Template.Name,
		Arrival: a.s.o.Now(), Interval: a.s.o.ReportInterval, OlderSession: !a.s.sessions.isNewest(a.open),
	}
}

// checkWindows sorts out the windows that the ledger must not see. A session may
// deliver the counts of its own workspace and agent name only.
func (a *session) checkWindows(c *checker, windows []*worktallypb.Window) (good []*worktallypb.Window, refused []*worktallypb.Acknowledgement) {
	for i, w := range windows {
		reason := ""
		workspace, err := wire.UUID("workspace_id", w.GetWorkspaceId())
		_, errEpoch := wire.UUID("epoch", w.GetEpoch())
		switch {
		case i >= maxWindows:
			reason = refusedTooMany
		case err != nil || errEpoch != nil || !validDuration(w.GetLength()) || !validDuration(w.GetAge()):
			reason = refusedMalformed
		case workspace != a.id.Workspace.ID || w.GetAgentName() != a.id.Agent.Name:
			reason = refusedForeignIdentity
		}
		if reason != "" {
			refused = append(refused, &worktallypb.Acknowledgement{Epoch: w.GetEpoch(), Sequence: w.GetSequence(), Refused: reason})
			continue
		}
		clear(c.seen)
		w.Totals = c.keep(w.GetTotals(), exposition.Counter)
		if g := w.GetGauges(); g != nil {
			g.Series = c.keep(g.GetSeries(), exposition.Gauge)
			c.cleanGauges(g)
		}
		w.WindowRxBytes, w.WindowTxBytes = min(w.GetWindowRxBytes(), maxCount), min(w.GetWindowTxBytes(), maxCount)
		good = append(good, w)
	}
	return good, refused
}

func validDuration(d *durationpb.Duration) bool { return d.CheckValid() == nil && d.AsDuration() >= 0 }
