package catalog

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

// sources are the migrations of log sources, a component of their own.
//
//go:embed sources/*.sql
var sources embed.FS

// maxLogSources bounds the log sources that are added to one agent.
const maxLogSources = 64

// LogSource says who writes lines of an agent's log, besides its scripts.
type LogSource struct {
	ID          uuid.UUID
	DisplayName string
	Icon        string
	CreatedAt   time.Time
}

func (c *Catalog) migrateLogSources(ctx context.Context) error {
	files, err := fs.Sub(sources, "sources")
	if err != nil {
		return err
	}
	return c.db.Migrate(ctx, "log sources", files)
}

// AddLogSource adds a source to an agent and returns it. One that is there keeps
// its time and gets the new name and icon. ErrInUse means that there is no room.
func (c *Catalog) AddLogSource(ctx context.Context, agentID uuid.UUID, s LogSource) (LogSource, error) {
	s.DisplayName, s.Icon = cut(clean(s.DisplayName), maxText), cut(clean(s.Icon), maxText)
	err := c.db.Write(ctx, func(tx *sql.Tx) error {
		var others int
		// An update, because it keeps others out until the commit.
		res, err := tx.ExecContext(ctx, `UPDATE catalog_states SET log_seq = log_seq WHERE agent_id = $1`, agentID)
		if err := oneRow(res, err); err != nil {
			return err
		}
		err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM catalog_log_sources WHERE agent_id = $1 AND source_id <> $2`, agentID, s.ID).Scan(&others)
		if err != nil {
			return err
		}
		if others >= maxLogSources {
			return fmt.Errorf("%w: the agent has %d log sources", ErrInUse, others)
		}
		var created int64
		err = tx.QueryRowContext(ctx, `INSERT INTO catalog_log_sources (agent_id, source_id, display_name, icon, created_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (agent_id, source_id) DO UPDATE SET display_name = excluded.display_name, icon = excluded.icon
			RETURNING created_at`, agentID, s.ID, s.DisplayName, s.Icon, sqldb.Micros(c.now())).Scan(&created)
		s.CreatedAt = sqldb.Time(created)
		return err
	})
	if err != nil {
		return LogSource{}, fmt.Errorf("add a log source: %w", err)
	}
	return s, nil
}

// LogSources returns the sources that were added to an agent, oldest first.
func (c *Catalog) LogSources(ctx context.Context, agentID uuid.UUID) ([]LogSource, error) {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT source_id, display_name, icon, created_at FROM catalog_log_sources
		WHERE agent_id = $1 ORDER BY created_at, source_id`, agentID)
	if err != nil {
		return nil, fmt.Errorf("read log sources: %w", err)
	}
	list, err := collect(rows, func(row rowScanner) (s LogSource, err error) {
		var created int64
		err = row.Scan(&s.ID, &s.DisplayName, &s.Icon, &created)
		s.CreatedAt = sqldb.Time(created)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("read log sources: %w", err)
	}
	return list, nil
}
