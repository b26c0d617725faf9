package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

// Apply creates the caller's workspace of that name, or changes it to the spec;
// either all of it or nothing. Only an administrator may name another owner. The
// spec is taken to be valid: ParseSpec checks.
func (c *Catalog) Apply(ctx context.Context, caller User, spec Spec) (Applied, error) {
	return c.apply(ctx, caller, spec, func(tx *sql.Tx, owner User) (uuid.UUID, error) {
		var id uuid.UUID
		err := tx.QueryRowContext(ctx, `SELECT id FROM catalog_workspaces WHERE owner_id = $1 AND name = $2 AND deleted_at = 0`,
			owner.ID, spec.Name).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return uuid.Nil, nil
		}
		return id, err
	})
}

// ApplyTo changes the workspace with that id to the spec, including its name. The
// owner stays.
func (c *Catalog) ApplyTo(ctx context.Context, caller User, id uuid.UUID, spec Spec) (Applied, error) {
	return c.apply(ctx, caller, spec, func(tx *sql.Tx, owner User) (uuid.UUID, error) {
		ws, err := workspaceByID(ctx, tx, id)
		if err != nil {
			return uuid.Nil, err
		}
		if !caller.MayUse(ws) {
			return uuid.Nil, ErrForbidden
		}
		if spec.Owner != "" && owner.ID != ws.OwnerID {
			return uuid.Nil, fmt.Errorf("%w owner: a workspace keeps its owner", ErrInvalid)
		}
		return id, nil
	})
}

// MayUse reports whether the user may see and change a workspace.
func (u User) MayUse(ws Workspace) bool { return u.Admin || u.ID == ws.OwnerID }

func (c *Catalog) apply(ctx context.Context, caller User, spec Spec, find func(*sql.Tx, User) (uuid.UUID, error)) (Applied, error) {
	var out Applied
	err := c.db.Write(ctx, func(tx *sql.Tx) error {
		out = Applied{Tokens: map[string]string{}}
		owner, err := ownerOf(ctx, tx, caller, spec)
		if err != nil {
			return err
		}
		id, err := find(tx, owner)
		if err != nil {
			return err
		}
		if id == uuid.Nil {
			id, out.Created = uuid.New(), true
			err = insertWorkspace(ctx, tx, id, owner, spec, c.now())
		} else {
			err = updateWorkspace(ctx, tx, id, spec, &out)
		}
		if err != nil {
			return err
		}
		if err := applyAgents(ctx, tx, id, spec, &out); err != nil {
			return err
		}
		out.Workspace, err = workspaceByID(ctx, tx, id)
		return err
	})
	if err != nil {
		return Applied{}, fmt.Errorf("apply workspace %q: %w", spec.Name, err)
	}
	return out, nil
}

func ownerOf(ctx context.Context, tx *sql.Tx, caller User, spec Spec) (User, error) {
	if spec.Owner == "" || spec.Owner == caller.Username {
		return caller, nil
	}
	if !caller.Admin {
		return User{}, fmt.Errorf("owner %q: %w: only an administrator may act for somebody else", spec.Owner, ErrForbidden)
	}
	return userByName(ctx, tx, spec.Owner)
}

func insertWorkspace(ctx context.Context, tx *sql.Tx, id uuid.UUID, owner User, spec Spec, at time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO catalog_workspaces (id, owner_id, name, template_name, template_version, created_at)
		VALUES ($1, $2, $3, $4, $5, $6)`, id, owner.ID, spec.Name, spec.Template.Name, spec.Template.Version, sqldb.Micros(at))
	if sqldb.IsUnique(err) {
		return ErrExists
	}
	return err
}

func updateWorkspace(ctx context.Context, tx *sql.Tx, id uuid.UUID, spec Spec, out *Applied) error {
	var name string
	if err := tx.QueryRowContext(ctx, `SELECT name FROM catalog_workspaces WHERE id = $1`, id).Scan(&name); err != nil {
		return err
	}
	if name != spec.Name {
		out.PreviousName = name
	}
	_, err := tx.ExecContext(ctx, `UPDATE catalog_workspaces SET name = $2, template_name = $3, template_version = $4 WHERE id = $1`,
		id, spec.Name, spec.Template.Name, spec.Template.Version)
	if sqldb.IsUnique(err) {
		return ErrExists
	}
	return err
}

func applyAgents(ctx context.Context, tx *sql.Tx, id uuid.UUID, spec Spec, out *Applied) error {
	existing, err := agentsOf(ctx, tx, id)
	if err != nil {
		return err
	}
	old := make(map[string]Agent, len(existing))
	for _, a := range existing {
		old[a.Name] = a
	}
	for _, as := range spec.Agents {
		agentID := as.fillIDs(id)
		text, err := json.Marshal(as)
		if err != nil {
			return err
		}
		if _, known := old[as.Name]; known {
			delete(old, as.Name)
			_, err = tx.ExecContext(ctx, `UPDATE catalog_agents SET spec = $2 WHERE id = $1`, agentID, string(text))
		} else {
			out.Tokens[as.Name] = newAgentToken()
			err = insertAgent(ctx, tx, agentID, id, as.Name, out.Tokens[as.Name], string(text))
		}
		if err != nil {
			return err
		}
		if err := syncChildren(ctx, tx, agentID, as); err != nil {
			return err
		}
	}
	for _, a := range existing { // in order
		if _, gone := old[a.Name]; gone {
			if _, err := tx.ExecContext(ctx, `DELETE FROM catalog_agents WHERE id = $1`, a.ID); err != nil {
				return err
			}
			out.Removed = append(out.Removed, a)
		}
	}
	return nil
}

func insertAgent(ctx context.Context, tx *sql.Tx, id, workspace uuid.UUID, name, token, spec string) error {
	if _, err := tx.ExecContext(ctx, `INSERT INTO catalog_agents (id, workspace_id, name, token_hash, spec) VALUES ($1, $2, $3, $4, $5)`,
		id, workspace, name, hashToken(token), spec); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO catalog_states (agent_id) VALUES ($1)`, id)
	return err
}
