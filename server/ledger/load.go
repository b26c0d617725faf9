package ledger

import (
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// load reads what the submission needs of its agent.
func (t *txn) load(s *Submission) (*agentState, error) {
	a := &agentState{epochs: map[uuid.UUID]*epochState{}}
	var l latestRow
	var others, mins []byte
	err := t.row(selectAgent, s.WorkspaceID, s.AgentName).Scan(append([]any{&a.revision, &a.anchor, &a.created, &a.openEpochs, &others, &a.missing},
		append(l.targets(), &a.hour, &mins)...)...)
	if errors.Is(err, sql.ErrNoRows) {
		var n int
		if err := t.row(selectForgotten, s.WorkspaceID).Scan(&n); err != nil {
			return nil, fmt.Errorf("read deleted workspaces: %w", err)
		}
		a.forgotten = n > 0
		return a, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read agent: %w", err)
	}
	a.exists = true
	var errs [3]error
	a.others, errs[0] = decodeSeries(others)
	a.latest, errs[1] = l.latest()
	a.minutes, errs[2] = decodeMinutes(mins)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("read agent: %w", err)
	}
	if a.mustSeeAll(s) {
		if err := t.loadOpen(s, a); err != nil {
			return nil, fmt.Errorf("read open epochs: %w", err)
		}
	}
	return a, t.loadEpochs(s, a)
}

// loadEpochs reads the anchor and every epoch that the submission names.
func (t *txn) loadEpochs(s *Submission, a *agentState) error {
	names := []uuid.UUID{a.anchor}
	if s.Stock != nil {
		names = append(names, uuid.Nil)
	}
	for _, w := range s.Windows {
		if id, err := uuid.FromBytes(w.GetEpoch()); err == nil {
			names = append(names, id)
		}
	}
	asked := make(map[uuid.UUID]bool, 2)
	for _, id := range names {
		if asked[id] {
			continue
		}
		asked[id] = true
		e := &epochState{id: id, exists: true}
		var totals, absolutes, missing []byte
		err := t.row(selectEpoch, s.WorkspaceID, s.AgentName, id).
			Scan(&e.ordinal, &e.sequence, &e.skipped, &e.closed, &e.arrived, &totals, &absolutes, &missing)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read epoch: %w", err)
		}
		var err2, err3 error
		e.totals, err = decodeSeries(totals)
		err2 = e.decodeAbsolutes(absolutes)
		e.gaps, err3 = decodeGaps(missing)
		if err := errors.Join(err, err2, err3); err != nil {
			return fmt.Errorf("read epoch: %w", err)
		}
		e.was = e.sequence
		a.epochs[id] = e
	}
	return nil
}

func (t *txn) loadOpen(s *Submission, a *agentState) error {
	rows, err := t.tx.StmtContext(t.ctx, t.stmts[selectOpen]).QueryContext(t.ctx, s.WorkspaceID, s.AgentName)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		e := &epochState{exists: true}
		if err := rows.Scan(&e.id, &e.ordinal, &e.sequence, &e.skipped, &e.arrived); err != nil {
			return err
		}
		e.was = e.sequence
		a.epochs[e.id] = e
	}
	return rows.Err()
}
