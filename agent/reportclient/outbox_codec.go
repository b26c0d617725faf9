package reportclient

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/worktallypb"
)

// encodeRecord writes a record for the log of history.
func (o *outbox) encodeRecord(r *record) []byte {
	return mustMarshal(o.recordMessage(r))
}

func (o *outbox) recordMessage(r *record) *worktallypb.OutboxRecord {
	w := windowMessage(r, r.End)
	w.Age = nil
	return &worktallypb.OutboxRecord{Window: w, EndUnixMicros: o.now().Add(-time.Since(r.End)).UnixMicro()}
}

// encodeState writes what is kept with the newest totals: the totals of other
// epochs that wait, and where the reporter stands. What the next process would not
// read is an error: it would cost what is on the disk already.
func (o *outbox) encodeState(newest *record, at position, cut bool) ([]byte, error) {
	s := &worktallypb.OutboxState{Cut: cut, StockRxBytes: at.stock.rx, StockTxBytes: at.stock.tx}
	o.mu.Lock()
	for _, r := range o.records {
		// An owner before, whose disk failed, has left its records in memory only.
		if r.Totals != nil && r.Epoch != newest.Epoch && r.owner() == newest.owner() {
			s.Records = append(s.Records, o.recordMessage(r))
		}
	}
	o.mu.Unlock()
	s.Records = append(s.Records, o.recordMessage(newest.history()))
	acked := valuesOf(newest.Totals, at.acked)
	restored := make([]float64, len(newest.Totals))
	if j := at.joint; j != nil {
		s.RestoredSequence, s.RestoredCut = j.sequence, j.cut
		restored = valuesOf(newest.Totals, j.totals)
	}
	sent := make([][]float64, len(at.sent))
	for i, m := range at.sent {
		s.SentSequences, sent[i] = append(s.SentSequences, m.sequence), valuesOf(newest.Totals, m.totals)
	}
	for i, t := range newest.Totals {
		c := &worktallypb.OutboxCount{Name: t.Name, Value: t.Value, Base: newest.base(t), Acknowledged: acked[i], Restored: restored[i]}
		for _, l := range t.Labels {
			c.Labels = append(c.Labels, l.Name, l.Value)
		}
		for _, values := range sent {
			c.Sent = append(c.Sent, values[i])
		}
		s.Counts = append(s.Counts, c)
	}
	if err := checkSize(s); err != nil {
		return nil, fmt.Errorf("the totals that wait are too many: %w", err)
	}
	return mustMarshal(s), nil
}

// valuesOf returns what each of the totals is in series, 0 where it is not there. As a
// rule both come from the same tally, in the same order.
func valuesOf(totals, series []stats.Series) []float64 {
	values := make([]float64, len(totals))
	same := func(s stats.Series, i int) bool {
		return i < len(totals) && s.Name == totals[i].Name && slices.Equal(s.Labels, totals[i].Labels)
	}
	for i, s := range series {
		if !same(s, i) {
			known := byKey(series)
			for i, t := range totals {
				values[i] = known[t.Key()]
			}
			return values
		}
		values[i] = s.Value
	}
	return values
}

func mustMarshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("BUG: reportclient: write %T: %v", m, err))
	}
	return b
}

// What a state may hold. Each epoch whose totals wait is a record: it takes a process
// that found its directory taken or failing, and no server, to add one.
const (
	maxStateRecords = 512
	maxStateCounts  = 4096
	maxStateSent    = 2
)

func checkSize(s *worktallypb.OutboxState) error {
	records, counts, sent := len(s.GetRecords()), len(s.GetCounts()), len(s.GetSentSequences())
	if records == 0 || records > maxStateRecords || counts > maxStateCounts || sent > maxStateSent {
		return fmt.Errorf("%d records and %d counts, %d of them sent", records, counts, sent)
	}
	return nil
}

// decodeState reads the state of an earlier process, nil if payload is. older are
// the records of epochs that have ended.
func (o *outbox) decodeState(payload []byte, id identity) (found *restored, older []*record, err error) {
	if payload == nil {
		return nil, nil, nil
	}
	s := &worktallypb.OutboxState{}
	if err := proto.Unmarshal(payload, s); err != nil {
		return nil, nil, err
	}
	if err := checkSize(s); err != nil {
		return nil, nil, err
	}
	for _, m := range s.GetRecords() {
		r, err := o.recordOf(m)
		if err != nil {
			return nil, nil, err
		}
		if r.owner() != id {
			return nil, nil, errors.New("the totals are another agent's")
		}
		older = append(older, r)
	}
	newest := older[len(older)-1]
	older = older[:len(older)-1]
	found = &restored{newest: newest, position: position{stock: cursor{s.GetStockRxBytes(), s.GetStockTxBytes()}}}
	newest.Base = make(map[string]float64)
	newest.Totals = make([]stats.Series, 0, len(s.GetCounts()))
	var earlier []stats.Series
	sent := make([]sentTotals, len(s.GetSentSequences()))
	for i, sequence := range s.GetSentSequences() {
		sent[i].sequence = sequence
	}
	for _, c := range s.GetCounts() {
		t, err := seriesOf(c.GetName(), c.GetLabels(), c.GetValue())
		if err != nil || !isCount(c.GetBase()) || !isCount(c.GetAcknowledged()) || !isCount(c.GetRestored()) {
			return nil, nil, fmt.Errorf("count %q: %w", c.GetName(), errValue)
		}
		newest.Totals = append(newest.Totals, t)
		if c.GetBase() != 0 {
			newest.Base[t.Key()] = c.GetBase()
		}
		t.Value = c.GetAcknowledged()
		found.acked = append(found.acked, t)
		t.Value = c.GetRestored()
		earlier = append(earlier, t)
		if len(c.GetSent()) != len(sent) || !allCounts(c.GetSent()) {
			return nil, nil, fmt.Errorf("count %q, as it was sent: %w", c.GetName(), errValue)
		}
		for i, v := range c.GetSent() {
			t.Value = v
			sent[i].totals = append(sent[i].totals, t)
		}
	}
	found.joint = &joint{newest.Sequence, s.GetCut(), newest.Totals, sent}
	if s.GetRestoredSequence() != 0 {
		// Nor has that process heard from a server where its own began.
		found.joint = &joint{s.GetRestoredSequence(), s.GetRestoredCut(), earlier, sent}
	}
	return found, older, nil
}

var errValue = errors.New("not a count")

func isCount(v float64) bool { return v >= 0 && !math.IsInf(v, 0) }

func allCounts(values []float64) bool {
	return !slices.ContainsFunc(values, func(v float64) bool { return !isCount(v) })
}

func seriesOf(name string, labels []string, v float64) (stats.Series, error) {
	s := stats.Series{Name: name, Value: v}
	if name == "" || len(labels)%2 != 0 || !isCount(v) {
		return s, errValue
	}
	for i := 0; i < len(labels); i += 2 {
		s.Labels = append(s.Labels, stats.Label{Name: labels[i], Value: labels[i+1]})
	}
	return s, nil
}

// decodeRecord reads a record of the log of history.
func (o *outbox) decodeRecord(payload []byte) (*record, error) {
	m := &worktallypb.OutboxRecord{}
	if err := proto.Unmarshal(payload, m); err != nil {
		return nil, err
	}
	return o.recordOf(m)
}

// maxAge bounds how old a record that was read from the disk may seem: the wall
// clock may have jumped.
const maxAge = 366 * 24 * time.Hour

func (o *outbox) recordOf(m *worktallypb.OutboxRecord) (*record, error) {
	w := m.GetWindow()
	epoch, errEpoch := wire.UUID("epoch", w.GetEpoch())
	workspace, errWorkspace := wire.UUID("workspace_id", w.GetWorkspaceId())
	if err := errors.Join(errEpoch, errWorkspace); err != nil {
		return nil, err
	}
	if w.GetSequence() == 0 || w.GetSequence() > math.MaxInt64 {
		return nil, fmt.Errorf("sequence %d", w.GetSequence())
	}
	age := o.now().Sub(time.UnixMicro(m.GetEndUnixMicros()))
	r := &record{
		Workspace: workspace, Agent: w.GetAgentName(), Epoch: epoch, Sequence: w.GetSequence(),
		Length: w.GetLength().AsDuration(), End: time.Now().Add(-min(max(age, 0), maxAge)),
		kept: w.GetGauges(), RxBytes: w.GetWindowRxBytes(), TxBytes: w.GetWindowTxBytes(),
	}
	for _, t := range w.GetTotals() {
		s, err := seriesOf(t.GetName(), t.GetLabels(), t.GetValue())
		if err != nil {
			return nil, fmt.Errorf("total %q: %w", t.GetName(), err)
		}
		r.Totals = append(r.Totals, s)
	}
	return r, nil
}
