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
	if !r.present() {
		return false, nil
	}
	records, whole := r.outbox.pending(maxHistory)
	if len(records) == 0 {
		return false, nil
	}
	r.mu.Lock()
	req := &worktallypb.ReportRequest{Protocol: protocol, Epoch: r.epoch[:], LastSequence: r.sequence}
	epoch := r.epoch
	r.mu.Unlock()
	now := time.Now()
	sent := make(map[recordID]*record, len(records))
	size := 0
	for _, record := range records {
		w := windowMessage(record, now)
		size += proto.Size(w)
		if len(sent) == maxHistory || len(sent) > 0 && size > maxReportBytes {
			break
		}
		req.Windows = append(req.Windows, w)
		sent[record.id()] = record
	}
	req.NoOlderEpochPending = whole && !hasOtherEpoch(records, epoch)
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
	left, _, _ := r.outbox.state()
	// A server that acknowledges nothing is asked again with the next window.
	return left > 0 && acknowledged > 0, nil
}

// present says whether the disk has what is true now, and tries to make it so.
// Otherwise the next checkpoint does.
func (r *reporter) present() bool {
	unkept := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.unkept
	}
	if !unkept() {
		return true
	}
	r.checkpoint(true)
	if !unkept() {
		return true
	}
	r.log.Error("reports wait for the disk: without it they could be counted twice")
	return false
}

func hasOtherEpoch(records []*record, epoch uuid.UUID) bool {
	for _, record := range records {
		if record.Epoch != epoch {
			return true
		}
	}
	return false
}

func (r *reporter) takeAcknowledgements(acks []*worktallypb.Acknowledgement, sent map[recordID]*record) int {
	var ids []recordID
	refused, unknown := false, 0
	for _, ack := range acks {
		epoch, err := wire.UUID("epoch", ack.GetEpoch())
		record, ok := sent[recordID{epoch, ack.GetSequence()}]
		if err != nil || !ok {
			unknown++
			continue
		}
		delete(sent, record.id()) // one answer counts
		ids = append(ids, record.id())
		if reason := ack.GetRefused(); reason != "" {
			refused = true
			r.tally.Drop(stats.DropReportRefused, 1)
			r.log.Error("the server refused a report window", "reason", reason, "sequence", ack.GetSequence())
			if record.Totals != nil {
				r.newEpoch(epoch, nil)
			}
			continue
		}
		r.noteDelivered(record, true)
	}
	if unknown > 0 {
		r.log.Warn("the server acknowledges windows that were not sent", "acknowledgements", unknown)
	}
	r.outbox.acknowledge(ids)
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
func windowMessage(r *record, now time.Time) *worktallypb.Window {
	w := &worktallypb.Window{
		Sequence: r.Sequence, WorkspaceId: r.Workspace[:], AgentName: r.Agent, Epoch: r.Epoch[:],
		Length: durationpb.New(r.Length), Age: durationpb.New(max(0, now.Sub(r.End))),
		WindowRxBytes: r.RxBytes, WindowTxBytes: r.TxBytes,
		Gauges: gaugesMessage(r),
	}
	for _, s := range r.Totals {
		v := s.Value - r.base(s)
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

func gaugesMessage(r *record) *worktallypb.Gauges {
	if r.kept != nil {
		return r.kept
	}
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
