package agentapi

import (
	"context"
	"math"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/appname"
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
	ledgerTotalsFell       = ledger.RefusedTotalsFell
	ledgerBadSequence      = ledger.RefusedBadSequence
	ledgerClosedEpoch      = ledger.RefusedClosedEpoch
)

// maxWindows bounds the windows of one call.
const maxWindows = 512

// UpdateStats takes a report in. It answers after the commit: an agent that got
// an answer may forget what it sent, one that got none sends it again.
func (a *session) UpdateStats(ctx context.Context, r *agentpb.UpdateStatsRequest) (*agentpb.UpdateStatsResponse, error) {
	resp := &agentpb.UpdateStatsResponse{ReportInterval: durationpb.New(a.s.o.ReportInterval)}
	ext := r.GetWorktally()
	if r.GetStats() == nil {
		a.s.c.add("worktally_reports_total", "result", "hello", 1)
		return resp, a.answerHello(ctx, ext, resp)
	}
	submission := a.submission()
	var refused []*worktallypb.Acknowledgement
	checker := a.s.newChecker()
	if ext != nil {
		submission.NoOlderEpochPending = ext.GetNoOlderEpochPending()
		submission.Windows, refused = a.checkWindows(checker, ext.GetWindows())
	} else {
		submission.Stock = stockReport(checker, r.GetStats())
	}
	checker.done()
	outcome, err := a.s.commit(ctx, submission)
	if err != nil {
		a.s.c.add("worktally_reports_total", "result", "error", 1)
		return nil, err
	}
	a.s.c.add("worktally_reports_total", "result", "ok", 1)
	if outcome.Latest.WorkspaceID != uuid.Nil {
		a.s.o.Publisher.Reported(a.id, outcome)
	}
	if ext != nil {
		acknowledged := append(outcome.Acknowledged, refused...)
		for _, ack := range acknowledged {
			if reason := ack.GetRefused(); reason != "" {
				a.s.c.add("worktally_rejected_windows_total", "reason", reason, 1)
			}
		}
		resp.Worktally = &worktallypb.ReportResponse{Protocol: protocol, Acknowledged: acknowledged}
	}
	return resp, nil
}

// commit stores a submission; one without content is nothing to store.
func (s *Service) commit(ctx context.Context, sub ledger.Submission) (ledger.Outcome, error) {
	if len(sub.Windows) == 0 && sub.Stock == nil {
		return ledger.Outcome{}, nil
	}
	return s.o.Ledger.Commit(ctx, sub)
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
	resp.Worktally.LastSequence, err = a.s.o.Ledger.LastSequence(ctx, a.id.Workspace.ID, a.id.Agent.Name, epoch)
	return err
}

func (a *session) submission() ledger.Submission {
	return ledger.Submission{
		WorkspaceID: a.id.Workspace.ID, AgentName: a.id.Agent.Name, OwnerID: a.id.Owner.ID, TemplateName: a.id.Workspace.Template.Name,
		Arrival: time.Now(), Interval: a.s.o.ReportInterval, OlderSession: a.helper || !a.isNewest(),
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
			cleanGauges(g)
		}
		good = append(good, w)
	}
	return good, refused
}

func validDuration(d *durationpb.Duration) bool { return d.CheckValid() == nil && d.AsDuration() >= 0 }

// The bounds of the gauges that are not series.
const (
	maxSessionNames = 65
	maxProtocols    = 32
)

// cleanGauges brings the typed gauges of a report into bounds. What a name
// belongs to is decided here again, not taken from the agent.
func cleanGauges(g *worktallypb.Gauges) {
	g.ConnectionCount = max(0, g.GetConnectionCount())
	g.MeasuredPeers = max(0, g.GetMeasuredPeers())
	if l := g.MedianLatencySeconds; l != nil && !(*l > 0 && *l < math.Inf(1)) {
		g.MedianLatencySeconds = nil
	}
	if len(g.ConnectionsByProto) > maxProtocols {
		g.ConnectionsByProto = nil
	}
	counts := make(map[string]int64, len(g.Sessions))
	for _, o := range g.Sessions {
		if o.GetCount() <= 0 {
			continue
		}
		name := appname.Normalize(o.GetAppName())
		if _, known := counts[name]; !known && len(counts) >= maxSessionNames {
			name = appname.UnknownName
		}
		counts[name] += min(o.GetCount(), 1<<31)
	}
	g.Sessions = openSessions(counts)
}

func openSessions(counts map[string]int64) []*worktallypb.OpenSessions {
	open := make([]*worktallypb.OpenSessions, 0, len(counts))
	for name, n := range counts {
		open = append(open, &worktallypb.OpenSessions{AppName: name, Family: string(appname.FamilyOf(name)), Count: n})
	}
	return open
}
