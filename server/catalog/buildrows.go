package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

// buildHead is the row of a workspace that guards its builds.
type buildHead struct{ latest, forgotten int64 }

// buildRow is a Build as it is stored.
type buildRow struct {
	Build
	run run
}

// workspaceTemplate returns the template of a workspace, deleted or not.
func (e *events) workspaceTemplate(id uuid.UUID) (t Template, err error) {
	err = e.tx.QueryRowContext(e.ctx, `SELECT template_name, template_version FROM catalog_workspaces WHERE id = $1`, id).Scan(&t.Name, &t.Version)
	return t, found(err, "workspace %s", id)
}

// lockHead locks the builds and totals of a workspace until the transaction ends.
func (e *events) lockHead(workspace uuid.UUID) (h buildHead, err error) {
	err = e.tx.QueryRowContext(e.ctx, `INSERT INTO catalog_build_heads (workspace_id, latest, forgotten) VALUES ($1, 0, 0)
		ON CONFLICT (workspace_id) DO UPDATE SET latest = catalog_build_heads.latest RETURNING latest, forgotten`, workspace).Scan(&h.latest, &h.forgotten)
	return h, err
}

func (e *events) build(id uuid.UUID) (buildRow, error) {
	b, err := scanBuild(e.tx.QueryRowContext(e.ctx, `SELECT `+buildColumns+` FROM catalog_builds b WHERE b.id = $1`, id))
	return b, found(err, "it is not known")
}

func (e *events) writeBuild(b buildRow, isNew bool) error {
	parameters, err := json.Marshal(b.Parameters)
	if err != nil {
		return err
	}
	args := []any{b.ID, string(parameters), string(b.run.status), sqldb.Micros(b.run.created), sqldb.Micros(b.run.started), sqldb.Micros(b.run.ended), sqldb.Bit(b.run.timed)}
	query := `UPDATE catalog_builds SET parameters = $2, status = $3, created_at = $4, started_at = $5, ended_at = $6, timed = $7 WHERE id = $1`
	if isNew {
		query = `INSERT INTO catalog_builds (id, parameters, status, created_at, started_at, ended_at, timed, workspace_id, number, transition,
			template_name, template_version, provisioner) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`
		args = append(args, b.WorkspaceID, b.Number, string(b.Transition), b.Template.Name, b.Template.Version, b.Provisioner)
	}
	_, err = e.tx.ExecContext(e.ctx, query, args...)
	if sqldb.IsUnique(err) { // the id, at the same moment, for another workspace
		err = ErrExists
	}
	return err
}

// moveHead makes a new build the latest one, if its number says so, and forgets
// those for which there is no room.
func (e *events) moveHead(b buildRow, head buildHead) error {
	first := head.latest == 0
	var limit int64
	if !first {
		err := e.tx.QueryRowContext(e.ctx, `SELECT number FROM catalog_builds WHERE workspace_id = $1 ORDER BY number DESC LIMIT 1 OFFSET $2`,
			b.WorkspaceID, maxBuilds).Scan(&limit)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	if limit > 0 {
		if _, err := e.tx.ExecContext(e.ctx, `DELETE FROM catalog_builds WHERE workspace_id = $1 AND number <= $2`, b.WorkspaceID, limit); err != nil {
			return err
		}
	}
	next := buildHead{max(head.latest, b.Number), max(head.forgotten, limit)}
	if next == head {
		return nil
	}
	_, err := e.tx.ExecContext(e.ctx, `INSERT INTO catalog_build_heads (workspace_id, latest, forgotten) VALUES ($1, $2, $3)
		ON CONFLICT (workspace_id) DO UPDATE SET latest = excluded.latest, forgotten = excluded.forgotten`, b.WorkspaceID, next.latest, next.forgotten)
	return err
}

const buildColumns = `b.id, b.workspace_id, b.number, b.transition, b.template_name, b.template_version, b.provisioner, b.parameters,
	b.status, b.created_at, b.started_at, b.ended_at, b.timed`

func scanBuild(row rowScanner) (buildRow, error) {
	var b buildRow
	var parameters string
	var created, started, ended int64
	err := row.Scan(&b.ID, &b.WorkspaceID, &b.Number, &b.Transition, &b.Template.Name, &b.Template.Version, &b.Provisioner, &parameters,
		&b.run.status, &created, &started, &ended, &b.run.timed)
	if err != nil {
		return buildRow{}, err
	}
	b.run.created, b.run.started, b.run.ended = sqldb.Time(created), sqldb.Time(started), sqldb.Time(ended)
	return b, json.Unmarshal([]byte(parameters), &b.Parameters)
}

func (b buildRow) out() Build {
	o := b.Build
	o.Status, o.CreatedAt, o.StartedAt, o.EndedAt = b.run.status, b.run.created, b.run.started, b.run.ended
	return o
}

// Build returns what is known of a build.
func (c *Catalog) Build(ctx context.Context, id uuid.UUID) (Build, error) {
	b, err := scanBuild(c.db.Reader().QueryRowContext(ctx, `SELECT `+buildColumns+` FROM catalog_builds b WHERE b.id = $1`, id))
	if err != nil {
		return Build{}, found(err, "build %s", id)
	}
	return b.out(), nil
}

// Builds returns the builds of a workspace that are kept, newest first.
func (c *Catalog) Builds(ctx context.Context, workspace uuid.UUID) ([]Build, error) {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT `+buildColumns+` FROM catalog_builds b WHERE b.workspace_id = $1 ORDER BY b.number DESC`, workspace)
	if err != nil {
		return nil, fmt.Errorf("list builds: %w", err)
	}
	return collect(rows, func(r rowScanner) (Build, error) {
		b, err := scanBuild(r)
		return b.out(), err
	})
}
