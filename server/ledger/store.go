package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/worktally/worktally/internal/sqldb"
)

// errMoved: another process wrote this agent between our read and our write.
var errMoved = errors.New("the agent's row changed meanwhile")

// txn runs prepared statements in one transaction.
type txn struct {
	ctx   context.Context
	tx    *sql.Tx
	stmts map[string]*sql.Stmt
}

func (t *txn) row(query string, args ...any) *sql.Row {
	return t.tx.StmtContext(t.ctx, t.stmts[query]).QueryRowContext(t.ctx, args...)
}

// exec returns the number of rows that the statement touched.
func (t *txn) exec(query string, args ...any) (int64, error) {
	res, err := t.tx.StmtContext(t.ctx, t.stmts[query]).ExecContext(t.ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// save writes what apply changed. The agent's row goes first: once it is
// written, nobody else can change the agent before the commit.
func (t *txn) save(s *Submission, a *agentState, c *change) error {
	hours, err := t.mergeHours(s, a, c)
	if err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	if err := t.saveAgent(s, a); err != nil {
		return err
	}
	for _, e := range a.epochs {
		if e.changed {
			if err := t.saveEpoch(s, e); err != nil {
				return err
			}
		}
	}
	if len(c.closing) > 0 {
		if _, err := t.exec(forgetClosed, s.WorkspaceID, s.AgentName, maxClosedEpochs); err != nil {
			return fmt.Errorf("forget closed epochs: %w", err)
		}
	}
	for hour, m := range hours {
		if _, err := t.exec(upsertHour, hour, s.WorkspaceID, s.AgentName, s.OwnerID, s.TemplateName, m.encode()); err != nil {
			return fmt.Errorf("write history: %w", err)
		}
	}
	return nil
}

// mergeHours returns the history rows to write. The agent's row has a copy of
// its newest one, so that most reports neither read nor write history.
func (t *txn) mergeHours(s *Submission, a *agentState, c *change) (map[int64]minutes, error) {
	changed := map[int64]minutes{}
	for hour, marks := range c.marks {
		stored := a.minutes
		if hour != a.hour {
			var blob []byte
			err := t.row(selectHour, hour, s.WorkspaceID, s.AgentName).Scan(&blob)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return nil, err
			}
			if stored, err = decodeMinutes(blob); err != nil {
				return nil, err
			}
		}
		all, more := stored.union(marks)
		if more {
			changed[hour] = all
		}
		if hour >= a.hour {
			a.hour, a.minutes = hour, all
		}
	}
	return changed, nil
}

func (t *txn) saveAgent(s *Submission, a *agentState) error {
	others, err := encodeSeries(a.others)
	if err != nil {
		return err
	}
	gauges, err := encodeGauges(a.latest.Gauges)
	if err != nil {
		return err
	}
	query, l := insertAgent, a.latest
	if a.exists {
		query = updateAgent
	}
	n, err := t.exec(query, s.WorkspaceID, s.AgentName, a.revision, a.anchor, a.created, a.openEpochs, others,
		l.OwnerID, l.TemplateName, l.Epoch, int64(l.Sequence), sqldb.Micros(l.End), l.Length.Microseconds(),
		sqldb.Micros(l.Arrival), l.Interval.Microseconds(), gauges, encodeRecent(l.Recent), a.hour, a.minutes.encode(), a.missing)
	if err != nil {
		return fmt.Errorf("write agent: %w", err)
	}
	if n == 0 {
		return errMoved
	}
	return nil
}

func (t *txn) saveEpoch(s *Submission, e *epochState) error {
	totals, err := encodeSeries(e.totals)
	if err != nil {
		return err
	}
	absolutes, err := e.encodeAbsolutes()
	if err != nil {
		return err
	}
	query, guard := insertEpoch, e.ordinal
	if e.exists {
		query, guard = updateEpoch, int64(e.was)
	}
	n, err := t.exec(query, s.WorkspaceID, s.AgentName, e.id, guard, int64(e.sequence), int64(e.skipped),
		sqldb.Bit(e.closed), e.arrived, totals, absolutes, e.gaps.encode())
	if err != nil {
		return fmt.Errorf("write epoch: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("BUG: epoch %s moved although its agent did not", e.id)
	}
	return nil
}
