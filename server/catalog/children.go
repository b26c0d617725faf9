package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/wire/agentpb"
)

// fillIDs sets the ids that follow from workspace, agent and name, and returns
// the agent's. The slices are the spec's own; ids of equal specs are equal.
func (as *AgentSpec) fillIDs(workspace uuid.UUID) uuid.UUID {
	id := uuid.NewSHA1(workspace, []byte("agent/"+as.Name))
	for i := range as.Scripts {
		s := &as.Scripts[i]
		s.ID = uuid.NewSHA1(id, []byte("script/"+s.Name))
		s.LogSourceID = uuid.NewSHA1(id, []byte("log/"+s.Name))
	}
	for i := range as.Apps {
		as.Apps[i].ID = uuid.NewSHA1(id, []byte("app/"+as.Apps[i].Slug))
	}
	return id
}

// syncChildren gives the agent a row for every app and every metadata key, which
// is what reports about them update, and drops the others.
func syncChildren(ctx context.Context, tx *sql.Tx, id uuid.UUID, as AgentSpec) error {
	apps, keys := map[string]bool{}, map[string]bool{}
	for _, app := range as.Apps {
		apps[app.ID.String()] = true
		checked := sqldb.Bit(app.Healthcheck.URL != "")
		// The health survives unless the app starts or stops being checked.
		if _, err := tx.ExecContext(ctx, `INSERT INTO catalog_apps (agent_id, app_id, name, checked, health) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (agent_id, app_id) DO UPDATE SET name = excluded.name, checked = excluded.checked,
			health = CASE WHEN catalog_apps.checked = excluded.checked THEN catalog_apps.health ELSE excluded.health END`,
			id, app.ID, cmp.Or(app.DisplayName, app.Slug), checked, int64(app.firstHealth())); err != nil {
			return err
		}
	}
	for _, m := range as.Metadata {
		keys[m.Key] = true
		if _, err := tx.ExecContext(ctx, `INSERT INTO catalog_metadata (agent_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING`, id, m.Key); err != nil {
			return err
		}
	}
	return errors.Join(
		deleteOthers(ctx, tx, "catalog_apps", "app_id", id, apps),
		deleteOthers(ctx, tx, "catalog_metadata", "name", id, keys))
}

func (a App) firstHealth() agentpb.AppHealth {
	if a.Healthcheck.URL == "" {
		return agentpb.AppHealth_DISABLED
	}
	return agentpb.AppHealth_INITIALIZING
}

func deleteOthers(ctx context.Context, tx *sql.Tx, table, column string, id uuid.UUID, keep map[string]bool) error {
	rows, err := tx.QueryContext(ctx, `SELECT `+column+` FROM `+table+` WHERE agent_id = $1`, id)
	if err != nil {
		return err
	}
	stored, err := collect(rows, func(r rowScanner) (s string, err error) { return s, r.Scan(&s) })
	if err != nil {
		return err
	}
	for _, s := range stored {
		if keep[s] {
			continue
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE agent_id = $1 AND `+column+` = $2`, id, s); err != nil {
			return err
		}
	}
	return nil
}
