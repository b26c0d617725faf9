package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

const workspaceColumns = `w.id, w.name, w.owner_id, u.username, w.template_name, w.template_version, w.created_at`

const fromWorkspaces = ` FROM catalog_workspaces w JOIN catalog_users u ON u.id = w.owner_id WHERE w.deleted_at = 0`

func workspaceTargets(w *Workspace, created *int64) []any {
	return []any{&w.ID, &w.Name, &w.OwnerID, &w.OwnerName, &w.Template.Name, &w.Template.Version, created}
}

func scanWorkspace(row rowScanner) (Workspace, error) {
	var w Workspace
	var created int64
	if err := row.Scan(workspaceTargets(&w, &created)...); err != nil {
		return Workspace{}, err
	}
	w.CreatedAt = sqldb.Time(created)
	return w, nil
}

// Workspace returns the workspace with that id.
func (c *Catalog) Workspace(ctx context.Context, id uuid.UUID) (Workspace, error) {
	return workspaceByID(ctx, c.db.Reader(), id)
}

func workspaceByID(ctx context.Context, q querier, id uuid.UUID) (Workspace, error) {
	w, err := scanWorkspace(q.QueryRowContext(ctx, `SELECT `+workspaceColumns+fromWorkspaces+` AND w.id = $1`, id))
	if err != nil {
		return Workspace{}, found(err, "workspace %s", id)
	}
	w.Agents, err = agentsOf(ctx, q, id)
	return w, err
}

// WorkspaceByName returns an owner's workspace of that name.
func (c *Catalog) WorkspaceByName(ctx context.Context, owner, name string) (Workspace, error) {
	owner, name = clean(owner), clean(name)
	w, err := scanWorkspace(c.db.Reader().QueryRowContext(ctx,
		`SELECT `+workspaceColumns+fromWorkspaces+` AND u.username = $1 AND w.name = $2`, owner, name))
	if err != nil {
		return Workspace{}, found(err, "workspace %s/%s", owner, name)
	}
	w.Agents, err = agentsOf(ctx, c.db.Reader(), w.ID)
	return w, err
}

// Workspaces returns an owner's workspaces with their agents, or everybody's if
// ownerID is zero, ordered by owner and name.
func (c *Catalog) Workspaces(ctx context.Context, ownerID uuid.UUID) ([]Workspace, error) {
	query, args := `SELECT `+workspaceColumns+fromWorkspaces, []any(nil)
	if ownerID != uuid.Nil {
		query, args = query+` AND w.owner_id = $1`, []any{ownerID}
	}
	rows, err := c.db.Reader().QueryContext(ctx, query+` ORDER BY u.username, w.name`, args...)
	if err != nil {
		return nil, fmt.Errorf("list workspaces: %w", err)
	}
	list, err := collect(rows, scanWorkspace)
	if err != nil {
		return nil, fmt.Errorf("list workspaces: %w", err)
	}
	for i := range list {
		if list[i].Agents, err = agentsOf(ctx, c.db.Reader(), list[i].ID); err != nil {
			return nil, fmt.Errorf("list workspaces: %w", err)
		}
	}
	return list, nil
}

// DeleteWorkspace deletes a workspace and its agents, whose tokens are invalid at
// once, and returns what it was. The caller checks the right to do so, and drops
// the sessions of the agents.
func (c *Catalog) DeleteWorkspace(ctx context.Context, id uuid.UUID) (w Workspace, err error) {
	err = c.db.Write(ctx, func(tx *sql.Tx) error {
		if w, err = workspaceByID(ctx, tx, id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM catalog_agents WHERE workspace_id = $1`, id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE catalog_workspaces SET deleted_at = $2 WHERE id = $1`, id, sqldb.Micros(c.now()))
		return err
	})
	if err != nil {
		return Workspace{}, fmt.Errorf("delete workspace: %w", err)
	}
	return w, nil
}

// Purge forgets the workspaces that were deleted before a time, and returns how
// many.
func (c *Catalog) Purge(ctx context.Context, before time.Time) (n int64, err error) {
	err = c.db.Write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM catalog_workspaces WHERE deleted_at > 0 AND deleted_at < $1`, sqldb.Micros(before))
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("forget deleted workspaces: %w", err)
	}
	return n, nil
}

// agentsOf returns the agents of a workspace by name.
func agentsOf(ctx context.Context, q querier, workspace uuid.UUID) ([]Agent, error) {
	rows, err := q.QueryContext(ctx, `SELECT `+agentColumns+`, `+stateColumns+`
		FROM catalog_agents a JOIN catalog_states s ON s.agent_id = a.id WHERE a.workspace_id = $1 ORDER BY a.name`, workspace)
	if err != nil {
		return nil, fmt.Errorf("read agents: %w", err)
	}
	agents, err := collect(rows, func(r rowScanner) (Agent, error) {
		var row agentRow
		if err := r.Scan(row.targets()...); err != nil {
			return Agent{}, err
		}
		return row.agent()
	})
	if err != nil {
		return nil, fmt.Errorf("read agents: %w", err)
	}
	return agents, nil
}

const agentColumns = `a.id, a.workspace_id, a.name, a.spec`

// agentRow is the stored form of an Agent.
type agentRow struct {
	out   Agent
	spec  string
	state stateRow
}

func (r *agentRow) targets() []any {
	return append([]any{&r.out.ID, &r.out.WorkspaceID, &r.out.Name, &r.spec}, r.state.targets()...)
}

func (r *agentRow) agent() (Agent, error) {
	a := r.out
	if err := json.Unmarshal([]byte(r.spec), &a.Spec); err != nil {
		return Agent{}, fmt.Errorf("spec of agent %s: %w", a.ID, err)
	}
	var err error
	a.State, err = r.state.state()
	return a, err
}
