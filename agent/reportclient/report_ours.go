package reportclient

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// deliverOurs sends the newest totals and a batch of history to a server of
// ours. more says that history is left.
func (r *reporter) deliverOurs(ctx context.Context, api agentpb.DRPCAgentClient) (more bool, err error) {
	records := r.outbox.Pending(maxHistory)
	if len(records) == 0 {
		return false, nil
	}
	r.mu.Lock()
	req := &worktallypb.ReportRequest{Protocol: protocol, Epoch: r.epoch[:], LastSequence: r.sequence}
	epoch := r.epoch
	r.mu.Unlock()
	now := time.Now()
	sent := make(map[RecordID]*Record, len(records))
	size := 0
	for _, record := range records {
		w := windowMessage(record, now)
		size += proto.Size(w)
		if len(sent) == maxHistory || len(sent) > 0 && size > maxReportBytes {
			break
		}
		req.Windows = append(req.Windows, w)
		sent[record.ID()] = record
	}
	req.NoOlderEpochPending = !hasOtherEpoch(records, epoch)
	if records[0].Totals != nil {
		r.mu.Lock()
		r.unanswered = records[0]
		r.mu.Unlock()
	}
	resp, err := r.call(ctx, api, &agentpb.UpdateStatsRequest{Stats: &agentpb.Stats{}, Worktally: req})
	if err != nil {
		return false, err
	}
	r.answered()
	acknowledged := r.takeAcknowledgements(resp.GetWorktally().GetAcknowledged(), sent)
	left, _ := r.outbox.State()
	// A server that acknowledges nothing is asked again with the next window.
	return left > 0 && acknowledged > 0, nil
}

func hasOtherEpoch(records []*Record, epoch uuid.UUID) bool {
	for _, record := range records {
		if record.Epoch != epoch {
			return true
		}
	}
	return false
}

func (r *reporter) takeAcknowledgements(acks []*worktallypb.Acknowledgement, sent map[RecordID]*Record) int {
	var ids []RecordID
	refused, unknown := false, 0
	for _, ack := range acks {
		epoch, err := wire.UUID("epoch", ack.GetEpoch())
		record, ok := sent[RecordID{epoch, ack.GetSequence()}]
		if err != nil || !ok {
			unknown++
			continue
		}
		delete(sent, record.ID()) // one answer counts
		ids = append(ids, record.ID())
		if reason := ack.GetRefused(); reason != "" {
			refused = true
			r.tally.Drop(stats.DropReportRefused, 1)
			r.log.Error("the server refused a report window", "reason", reason, "sequence", ack.GetSequence())
			if record.Totals != nil {
				r.newEpoch(epoch)
			}
			continue
		}
		r.noteDelivered(record, true)
	}
	if unknown > 0 {
		r.log.Warn("the server acknowledges windows that were not sent", "acknowledgements", unknown)
	}
	if err := r.outbox.Acknowledge(ids); err != nil {
		r.log.Error("remove acknowledged report windows", "err", err)
	}
	if refused {
		r.health.refused.Add(1)
	}
	if len(ids) > 0 {
		r.succeeded()
	}
	return len(ids)
}

// windowMessage writes a record for the wire. Series at 0 are left out: the
// server shows a fixed vocabulary by itself.
func windowMessage(r *Record, now time.Time) *worktallypb.Window {
	w := &worktallypb.Window{
		Sequence: r.Sequence, WorkspaceId: r.Workspace[:], AgentName: r.Agent, Epoch: r.Epoch[:],
		Length: durationpb.New(r.Length), Age: durationpb.New(max(0, now.Sub(r.End))),
		WindowRxBytes: r.RxBytes, WindowTxBytes: r.TxBytes,
		Gauges: gaugesMessage(r),
	}
	for _, s := range r.Totals {
		v := s.Value - r.Base[s.Key()]
		if v != 0 {
			w.Totals = append(w.Totals, seriesMessage(s.Name, s.Labels, v))
		}
	}
	if r.Totals != nil && len(w.Totals) == 0 {
		// A window with totals must be told from one of history.
		w.Totals = append(w.Totals, seriesMessage("agent_scripts_executed_total", []stats.Label{{Name: "success", Value: "true"}}, 0))
	}
	return w
}

func gaugesMessage(r *Record) *worktallypb.Gauges {
	g := &worktallypb.Gauges{ConnectionCount: r.Gauges.Connections, ConnectionsByProto: r.Gauges.ConnectionsByProto}
	if p := r.Gauges.Peers; p.Measured > 0 {
		g.MedianLatencySeconds = proto.Float64(p.MedianLatency.Seconds())
		g.MeasuredPeers = int64(p.Measured)
	}
	for _, o := range r.Gauges.Sessions {
		g.Sessions = append(g.Sessions, &worktallypb.OpenSessions{AppName: o.App, Family: string(o.Family), Count: o.Count})
	}
	for _, s := range forwardedGauges(r) {
		g.Series = append(g.Series, seriesMessage(s.Name, s.Labels, s.Value))
	}
	return g
}

func seriesMessage(name string, labels []stats.Label, v float64) *worktallypb.Series {
	m := &worktallypb.Series{Name: name, Value: v}
	for _, l := range labels {
		m.Labels = append(m.Labels, l.Name, l.Value)
	}
	return m
}

func byKey(series []stats.Series) map[string]float64 {
	m := make(map[string]float64, len(series))
	for _, s := range series {
		m[s.Key()] = s.Value
	}
	return m
}
