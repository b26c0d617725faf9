package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

const stateColumns = `s.api_version, s.version, s.expanded_directory, s.subsystems, s.lifecycle, s.lifecycle_changed_at,
	s.started_at, s.ready_at, s.first_connected_at, s.last_connected_at, s.disconnected_at, s.logs_overflowed, s.replica, s.tailnet_node`

// stateRow is the stored form of an AgentState.
type stateRow struct {
	out                                                AgentState
	subsystems                                         string
	changed, started, ready, first, last, disconnected int64
}

func (r *stateRow) targets() []any {
	return []any{&r.out.APIVersion, &r.out.Version, &r.out.ExpandedDirectory, &r.subsystems, &r.out.Lifecycle,
		&r.changed, &r.started, &r.ready, &r.first, &r.last, &r.disconnected, &r.out.LogsOverflowed, &r.out.Replica, &r.out.TailnetNode}
}

func (r *stateRow) state() (AgentState, error) {
	s := r.out
	s.LifecycleChangedAt, s.StartedAt, s.ReadyAt = sqldb.Time(r.changed), sqldb.Time(r.started), sqldb.Time(r.ready)
	s.FirstConnectedAt, s.LastConnectedAt, s.DisconnectedAt = sqldb.Time(r.first), sqldb.Time(r.last), sqldb.Time(r.disconnected)
	if err := json.Unmarshal([]byte(r.subsystems), &s.Subsystems); err != nil {
		return AgentState{}, fmt.Errorf("subsystems: %w", err)
	}
	return s, nil
}

// AgentByToken returns whose token this is. Every token that is not valid now is
// ErrNotFound.
func (c *Catalog) AgentByToken(ctx context.Context, token string) (Identity, error) {
	id, err := uuid.Parse(token)
	if err != nil {
		return Identity{}, fmt.Errorf("look up an agent token: %w", ErrNotFound)
	}
	hash := hashToken(id.String())
	now := sqldb.Micros(c.now())
	who, stored, err := c.identity(ctx, `(a.token_hash = $1 OR a.old_token_hash = $1 AND a.old_token_ends > $2)`, hash, now)
	switch {
	case err != nil || sameHash(stored.present, hash):
	case sameHash(stored.old, hash) && stored.oldEnds > now:
		who.TokenEnds = sqldb.Time(stored.oldEnds)
	default:
		err = sql.ErrNoRows
	}
	if err != nil {
		return Identity{}, fmt.Errorf("look up an agent token: %w", found(err, "agent"))
	}
	return who, nil
}

// AgentByID returns the agent with that id.
func (c *Catalog) AgentByID(ctx context.Context, id uuid.UUID) (Identity, error) {
	who, _, err := c.identity(ctx, `a.id = $1`, id)
	if err != nil {
		return Identity{}, fmt.Errorf("look up an agent: %w", found(err, "agent %s", id))
	}
	return who, nil
}

// tokenRow is what is stored of an agent's tokens.
type tokenRow struct {
	present, old string // hashes; old is "" if there is none
	oldEnds      int64
}

func (c *Catalog) identity(ctx context.Context, where string, args ...any) (who Identity, tokens tokenRow, err error) {
	var row agentRow
	var wsCreated, userCreated int64
	targets := append(row.targets(), workspaceTargets(&who.Workspace, &wsCreated)...)
	targets = append(targets, userTargets(&who.Owner, &userCreated)...)
	err = c.db.Reader().QueryRowContext(ctx, `SELECT `+agentColumns+`, `+stateColumns+`, `+workspaceColumns+`, `+userColumns+`,
			a.token_hash, COALESCE(a.old_token_hash, ''), a.old_token_ends
		FROM catalog_agents a JOIN catalog_states s ON s.agent_id = a.id
		JOIN catalog_workspaces w ON w.id = a.workspace_id JOIN catalog_users u ON u.id = w.owner_id
		WHERE w.deleted_at = 0 AND `+where, args...).Scan(append(targets, &tokens.present, &tokens.old, &tokens.oldEnds)...)
	if err != nil {
		return Identity{}, tokenRow{}, err
	}
	who.Workspace.CreatedAt, who.Owner.CreatedAt = sqldb.Time(wsCreated), sqldb.Time(userCreated)
	who.Agent, err = row.agent()
	return who, tokens, err
}

// AgentStatuses calls fn for every agent, ordered by owner, workspace and name,
// until fn returns an error, which it returns. fn must not call the catalog.
func (c *Catalog) AgentStatuses(ctx context.Context, fn func(AgentStatus) error) error {
	apps, err := c.appStatuses(ctx)
	if err != nil {
		return fmt.Errorf("read app health: %w", err)
	}
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT a.id, a.name, w.id, w.name, u.username, w.template_name, w.template_version, w.created_at, `+stateColumns+`
		FROM catalog_agents a JOIN catalog_states s ON s.agent_id = a.id
		JOIN catalog_workspaces w ON w.id = a.workspace_id JOIN catalog_users u ON u.id = w.owner_id
		WHERE w.deleted_at = 0 ORDER BY u.username, w.name, a.name`)
	if err != nil {
		return fmt.Errorf("read agents: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var a AgentStatus
		var row stateRow
		var created int64
		if err := rows.Scan(append([]any{&a.AgentID, &a.AgentName, &a.WorkspaceID, &a.WorkspaceName, &a.OwnerName,
			&a.Template.Name, &a.Template.Version, &created}, row.targets()...)...); err != nil {
			return fmt.Errorf("read agents: %w", err)
		}
		if a.State, err = row.state(); err != nil {
			return fmt.Errorf("read agents: %w", err)
		}
		a.CreatedAt, a.Apps = sqldb.Time(created), apps[a.AgentID]
		if err := fn(a); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read agents: %w", err)
	}
	return nil
}

func (c *Catalog) appStatuses(ctx context.Context) (map[uuid.UUID][]AppStatus, error) {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT agent_id, name, health FROM catalog_apps ORDER BY agent_id, name, app_id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	apps := map[uuid.UUID][]AppStatus{}
	for rows.Next() {
		var id uuid.UUID
		var app AppStatus
		if err := rows.Scan(&id, &app.Name, &app.Health); err != nil {
			return nil, err
		}
		apps[id] = append(apps[id], app)
	}
	return apps, rows.Err()
}
