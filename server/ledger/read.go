package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

// LastSequence returns the last sequence whose totals are stored for an epoch of
// an agent, 0 if none.
func (l *Ledger) LastSequence(ctx context.Context, workspaceID uuid.UUID, agentName string, epoch uuid.UUID) (uint64, error) {
	var seq int64
	err := l.db.Reader().QueryRowContext(ctx,
		`SELECT sequence FROM ledger_epochs WHERE workspace_id = $1 AND agent_name = $2 AND epoch = $3`,
		workspaceID, clean(agentName), epoch).Scan(&seq)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("read the last sequence: %w", err)
	}
	return uint64(seq), nil
}

// latestOfA is latestColumns, told apart from the columns of ledger_epochs.
const latestOfA = `a.owner_id, a.template_name, a.epoch, a.sequence, a.end_at, a.length_us, a.arrived_at, a.interval_us, a.gauges, a.recent`

const selectLatest = `SELECT a.workspace_id, a.agent_name, a.others, e.totals, a.missing, ` + latestOfA + `
	FROM ledger_agents a LEFT JOIN ledger_epochs e
	ON e.workspace_id = a.workspace_id AND e.agent_name = a.agent_name AND e.epoch = a.anchor`

// Load calls fn with the newest state of every agent, in no order, until fn
// returns an error, which Load returns. fn must not call the ledger.
func (l *Ledger) Load(ctx context.Context, fn func(Latest) error) error {
	rows, err := l.db.Reader().QueryContext(ctx, selectLatest)
	if err != nil {
		return fmt.Errorf("read agents: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		latest, err := scanLatest(rows)
		if err != nil {
			return fmt.Errorf("read agents: %w", err)
		}
		if err := fn(latest); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read agents: %w", err)
	}
	return nil
}

// LoadOne returns the newest state of one agent; known is false if there is none.
func (l *Ledger) LoadOne(ctx context.Context, workspaceID uuid.UUID, agentName string) (latest Latest, known bool, err error) {
	latest, err = scanLatest(l.db.Reader().QueryRowContext(ctx, selectLatest+` WHERE a.workspace_id = $1 AND a.agent_name = $2`,
		workspaceID, clean(agentName)))
	if errors.Is(err, sql.ErrNoRows) {
		return Latest{}, false, nil
	}
	if err != nil {
		return Latest{}, false, fmt.Errorf("read agent: %w", err)
	}
	return latest, true, nil
}

func scanLatest(row interface{ Scan(...any) error }) (Latest, error) {
	var r latestRow
	var id uuid.UUID
	var name string
	var others, anchor []byte
	var missing int64
	if err := row.Scan(append([]any{&id, &name, &others, &anchor, &missing}, r.targets()...)...); err != nil {
		return Latest{}, err
	}
	latest, err := r.latest()
	if err != nil {
		return Latest{}, err
	}
	latest.WorkspaceID, latest.AgentName, latest.MissingWindows = id, name, uint64(max(0, missing))
	a := agentState{epochs: map[uuid.UUID]*epochState{}}
	e := &epochState{}
	if a.others, err = decodeSeries(others); err != nil {
		return Latest{}, err
	}
	if e.totals, err = decodeSeries(anchor); err != nil {
		return Latest{}, err
	}
	a.epochs[a.anchor] = e
	latest.Totals = a.totals()
	return latest, nil
}

// History calls fn with every history row whose hour begins in [from, to),
// ordered by hour, until fn returns an error, which History returns.
func (l *Ledger) History(ctx context.Context, from, to time.Time, fn func(HistoryRow) error) error {
	ceil := func(t time.Time) int64 { return -floorDiv(-t.Unix(), 3600) }
	rows, err := l.db.Reader().QueryContext(ctx, `SELECT hour, workspace_id, agent_name, owner_id, template_name, minutes
		FROM ledger_history WHERE hour >= $1 AND hour < $2 ORDER BY hour`, ceil(from), ceil(to))
	if err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var h HistoryRow
		var hour int64
		var blob []byte
		if err := rows.Scan(&hour, &h.WorkspaceID, &h.AgentName, &h.OwnerID, &h.TemplateName, &blob); err != nil {
			return fmt.Errorf("read history: %w", err)
		}
		m, err := decodeMinutes(blob)
		if err != nil {
			return fmt.Errorf("read history: %w", err)
		}
		h.Hour, h.Minutes = time.Unix(hour*3600, 0).UTC(), m.asMap()
		if err := fn(h); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	return nil
}

// Purge deletes the history that is older than 35 days, an hour of it in each
// transaction so that reports do not wait, and returns the number of rows. The ids
// of workspaces that were deleted before that go too.
func (l *Ledger) Purge(ctx context.Context, now time.Time) (int64, error) {
	err := l.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM ledger_forgotten WHERE at < $1`, sqldb.Micros(now.Add(-retention)))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("purge deleted workspaces: %w", err)
	}
	limit := floorDiv(now.Add(-retention).Unix(), 3600)
	var total int64
	for {
		var oldest sql.NullInt64
		if err := l.db.Reader().QueryRowContext(ctx, `SELECT MIN(hour) FROM ledger_history`).Scan(&oldest); err != nil {
			return total, fmt.Errorf("purge history: %w", err)
		}
		if !oldest.Valid || oldest.Int64 >= limit {
			return total, nil
		}
		err := l.db.Write(ctx, func(tx *sql.Tx) error {
			res, err := tx.ExecContext(ctx, `DELETE FROM ledger_history WHERE hour = $1`, oldest.Int64)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			total += n
			return err
		})
		if err != nil {
			return total, fmt.Errorf("purge history: %w", err)
		}
	}
}

// ForgetWorkspace deletes everything about the agents of a deleted workspace except
// history and what they added to the deployment's totals. Its id is remembered: a
// report that was under way would add all its totals to those once more.
func (l *Ledger) ForgetWorkspace(ctx context.Context, workspaceID uuid.UUID) error {
	err := l.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO ledger_forgotten (workspace_id, at) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
			workspaceID, sqldb.Micros(l.now()))
		if err != nil {
			return err
		}
		// Agents first, as the writer does.
		for _, table := range []string{"ledger_agents", "ledger_epochs"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE workspace_id = $1`, workspaceID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget workspace %s: %w", workspaceID, err)
	}
	return nil
}
