package catalog

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/wire/agentpb"
)

const (
	// maxLogBytes bounds the output stored for one agent, line ends included,
	// until it starts again.
	maxLogBytes = 1 << 20
	// maxEvents bounds the script timings and the connection log of one agent.
	maxEvents = 1000
)

// AppendLogs stores lines in order, at the server's time. overflowed says that
// the agent has used up its room: the lines that fitted are stored, nothing more
// will be until it starts again.
func (c *Catalog) AppendLogs(ctx context.Context, agentID uuid.UUID, lines []LogLine) (overflowed bool, err error) {
	now := sqldb.Micros(c.now())
	err = c.db.Write(ctx, func(tx *sql.Tx) error {
		var seq, used int64
		// An update, because it keeps others out until the commit.
		err := tx.QueryRowContext(ctx, `UPDATE catalog_states SET log_seq = log_seq WHERE agent_id = $1
			RETURNING log_seq, log_bytes, logs_overflowed`, agentID).Scan(&seq, &used, &overflowed)
		if err != nil {
			return found(err, "agent %s", agentID)
		}
		for _, line := range lines {
			output := clean(line.Output)
			size := int64(len(output)) + 1
			if overflowed = overflowed || used+size > maxLogBytes; overflowed {
				break
			}
			seq++
			used += size
			if _, err := tx.ExecContext(ctx, `INSERT INTO catalog_logs (agent_id, seq, source_id, created_at, level, output)
				VALUES ($1, $2, $3, $4, $5, $6)`, agentID, seq, line.SourceID, now, int64(knownLevel(line.Level)), output); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `UPDATE catalog_states SET log_seq = $2, log_bytes = $3, logs_overflowed = $4 WHERE agent_id = $1`,
			agentID, seq, used, sqldb.Bit(overflowed))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("store logs: %w", err)
	}
	return overflowed, nil
}

// makeLogRoom drops the lines of earlier runs of an agent if they take up more
// than half of its room. An agent here outlives its processes, so that one that
// was full would never log again.
func (c *Catalog) makeLogRoom(ctx context.Context, agentID uuid.UUID) error {
	err := c.db.Write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE catalog_states SET log_bytes = 0, logs_overflowed = 0
			WHERE agent_id = $1 AND (logs_overflowed = 1 OR log_bytes > $2)`, agentID, maxLogBytes/2)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM catalog_logs WHERE agent_id = $1`, agentID)
		return err
	})
	if err != nil {
		return fmt.Errorf("make room for the logs of agent %s: %w", agentID, err)
	}
	return nil
}

func knownLevel(l agentpb.Log_Level) agentpb.Log_Level {
	if _, known := agentpb.Log_Level_name[int32(l)]; !known || l == agentpb.Log_LEVEL_UNSPECIFIED {
		return agentpb.Log_INFO
	}
	return l
}

// Logs returns at most limit lines of an agent whose Seq is greater than after.
func (c *Catalog) Logs(ctx context.Context, agentID uuid.UUID, after int64, limit int) ([]LogLine, error) {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT seq, source_id, created_at, level, output FROM catalog_logs
		WHERE agent_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`, agentID, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read logs: %w", err)
	}
	return collect(rows, func(r rowScanner) (l LogLine, err error) {
		var at int64
		err = r.Scan(&l.Seq, &l.SourceID, &at, &l.Level, &l.Output)
		l.CreatedAt = sqldb.Time(at)
		return l, err
	})
}

// AddScriptTiming stores one run of a script; the newest 1000 are kept.
func (c *Catalog) AddScriptTiming(ctx context.Context, agentID uuid.UUID, t ScriptTiming) error {
	if t.Start.IsZero() || t.End.Before(t.Start) {
		return fmt.Errorf("store a script timing: %w times %v to %v", ErrInvalid, t.Start, t.End)
	}
	return c.addEvent(ctx, "store a script timing", agentID, "timing_seq", "catalog_timings",
		`INSERT INTO catalog_timings (agent_id, seq, script_id, start_at, end_at, exit_code, stage, status) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		t.ScriptID, sqldb.Micros(t.Start), sqldb.Micros(t.End), int64(t.ExitCode), int64(t.Stage), int64(t.Status))
}

// ScriptTimings returns the stored runs of an agent's scripts, oldest first.
func (c *Catalog) ScriptTimings(ctx context.Context, agentID uuid.UUID) ([]ScriptTiming, error) {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT script_id, start_at, end_at, exit_code, stage, status FROM catalog_timings
		WHERE agent_id = $1 ORDER BY seq`, agentID)
	if err != nil {
		return nil, fmt.Errorf("read script timings: %w", err)
	}
	return collect(rows, func(r rowScanner) (t ScriptTiming, err error) {
		var start, end int64
		err = r.Scan(&t.ScriptID, &start, &end, &t.ExitCode, &t.Stage, &t.Status)
		t.Start, t.End = sqldb.Time(start), sqldb.Time(end)
		return t, err
	})
}

// AddConnection appends to the connection log; the newest 1000 events are kept.
func (c *Catalog) AddConnection(ctx context.Context, agentID uuid.UUID, e Connection) error {
	return c.addEvent(ctx, "store a connection event", agentID, "connection_seq", "catalog_connections",
		`INSERT INTO catalog_connections (agent_id, seq, connection_id, action, type, app_name, ip, status_code, reason, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		e.ID, int64(e.Action), int64(e.Type), cut(clean(e.AppName), maxText), cut(clean(e.IP), maxText),
		int64(e.StatusCode), cut(clean(e.Reason), maxText), sqldb.Micros(e.At))
}

// Connections returns the stored connection log of an agent, oldest first.
func (c *Catalog) Connections(ctx context.Context, agentID uuid.UUID) ([]Connection, error) {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT connection_id, action, type, app_name, ip, status_code, reason, at FROM catalog_connections
		WHERE agent_id = $1 ORDER BY seq`, agentID)
	if err != nil {
		return nil, fmt.Errorf("read connections: %w", err)
	}
	return collect(rows, func(r rowScanner) (e Connection, err error) {
		var at int64
		err = r.Scan(&e.ID, &e.Action, &e.Type, &e.AppName, &e.IP, &e.StatusCode, &e.Reason, &at)
		e.At = sqldb.Time(at)
		return e, err
	})
}

// addEvent inserts a row with the next number of its kind and drops the row that
// is too old for the bound.
func (c *Catalog) addEvent(ctx context.Context, what string, agentID uuid.UUID, counter, table, insert string, args ...any) error {
	err := c.db.Write(ctx, func(tx *sql.Tx) error {
		var seq int64
		if err := tx.QueryRowContext(ctx, `UPDATE catalog_states SET `+counter+` = `+counter+` + 1 WHERE agent_id = $1 RETURNING `+counter,
			agentID).Scan(&seq); err != nil {
			return found(err, "agent %s", agentID)
		}
		if _, err := tx.ExecContext(ctx, insert, append([]any{agentID, seq}, args...)...); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE agent_id = $1 AND seq <= $2`, agentID, seq-maxEvents)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
