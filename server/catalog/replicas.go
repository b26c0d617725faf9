package catalog

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/retry"
)

// replicasChannel is where servers on one database tell each other what they did. The
// message is empty if a session began, or a notice.
const replicasChannel = "worktally_replicas"

// WorkspaceNotice tells of a change of a workspace that another server made.
type WorkspaceNotice struct {
	Workspace uuid.UUID
	// Agents are those that have to connect again; Revoked are those whose tokens are
	// no longer valid.
	Agents, Revoked []uuid.UUID
	Deleted         bool
}

// notice is a WorkspaceNotice on its way.
type notice struct {
	// From is the server that made the change, which knows of it already.
	From string
	WorkspaceNotice
}

// TellOfWorkspace tells the other servers on the database of a change that this one
// made. It reaches those that are connected to the database then.
func (c *Catalog) TellOfWorkspace(ctx context.Context, n WorkspaceNotice) error {
	if c.replica == "" {
		return nil // there are no others
	}
	message, err := json.Marshal(notice{c.replica, n})
	if err != nil {
		return err
	}
	err = c.db.Write(ctx, func(tx *sql.Tx) error { return c.db.Notify(ctx, tx, replicasChannel, string(message)) })
	if err != nil {
		return fmt.Errorf("tell other servers of workspace %s: %w", n.Workspace, err)
	}
	return nil
}

// SetTailnetNodes notes what this server shows of the nodes that agents announced to
// it, for the other servers, all in one transaction. Agents that are gone, or with
// another server, are skipped.
func (c *Catalog) SetTailnetNodes(ctx context.Context, nodes map[uuid.UUID]string) error {
	// One order for all, so that two servers do not wait for each other in a circle.
	ids := slices.SortedFunc(maps.Keys(nodes), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	err := c.db.Write(ctx, func(tx *sql.Tx) error {
		stmt, err := tx.PrepareContext(ctx, `UPDATE catalog_states SET tailnet_node = $2 WHERE agent_id = $1 AND replica = $3`)
		if err != nil {
			return err
		}
		defer stmt.Close()
		for _, id := range ids {
			if _, err := stmt.ExecContext(ctx, id, nodes[id], c.replica); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note the nodes of agents: %w", err)
	}
	return nil
}

// WatchReplicas calls began after sessions began on any server, and changed after
// another server changed a workspace, until the context ends.
func (c *Catalog) WatchReplicas(ctx context.Context, began func(), changed func(WorkspaceNotice)) {
	delay := retry.New(100*time.Millisecond, 10*time.Second)
	quiet := retry.NewLog(c.log, "hear of other servers")
	for ctx.Err() == nil {
		err := c.db.Listen(ctx, replicasChannel, func(message string) {
			quiet.Succeeded()
			delay.Reset()
			c.heard(message, began, changed)
		})
		if err != nil {
			quiet.Failed(err)
		}
		_ = delay.Wait(ctx) // the loop sees the end
	}
}

func (c *Catalog) heard(message string, began func(), changed func(WorkspaceNotice)) {
	if message == "" {
		began()
		return
	}
	var n notice
	switch err := json.Unmarshal([]byte(message), &n); {
	case err != nil:
		c.log.Warn("another server on the database says what is not understood", "err", err)
	case n.From != c.replica:
		changed(n.WorkspaceNotice)
	}
}
