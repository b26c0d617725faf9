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
// message is empty if the state of agents has changed, or a notice.
const replicasChannel = "worktally_replicas"

// WorkspaceNotice tells of a change of a workspace that another server made.
type WorkspaceNotice struct {
	Workspace uuid.UUID
	// Agents are those that have to connect again; Revoked are those whose tokens are
	// no longer valid.
	Agents, Revoked []uuid.UUID
	Deleted         bool
}

// TokenNotice tells of a token that is not valid for ever any more, or not at all.
type TokenNotice struct {
	// Agent is whose token was replaced; zero if it is not about an agent.
	Agent uuid.UUID `json:",omitzero"`
	// Username is whose token was replaced, or who is gone; "" if it is not about a
	// person.
	Username string `json:",omitempty"`
}

// notice is what one server tells others.
type notice struct {
	// From is the server that made the change, which knows of it already.
	From string
	WorkspaceNotice
	TokenNotice
	// Events: builds, jobs or templates.
	Events bool `json:",omitempty"`
}

// TellOfWorkspace tells the other servers on the database of a change that this one
// made. It reaches those that are connected to the database then.
func (c *Catalog) TellOfWorkspace(ctx context.Context, n WorkspaceNotice) error {
	if err := c.tell(ctx, notice{From: c.replica, WorkspaceNotice: n}); err != nil {
		return fmt.Errorf("tell other servers of workspace %s: %w", n.Workspace, err)
	}
	return nil
}

// TellOfToken is TellOfWorkspace for a token that was replaced, or a person who was
// deleted. Servers that it does not reach look at all tokens when they are connected
// again.
func (c *Catalog) TellOfToken(ctx context.Context, n TokenNotice) error {
	if err := c.tell(ctx, notice{From: c.replica, TokenNotice: n}); err != nil {
		return fmt.Errorf("tell other servers of a token: %w", err)
	}
	return nil
}

// TellOfEvents is TellOfWorkspace for builds, jobs and templates.
func (c *Catalog) TellOfEvents(ctx context.Context) error {
	if err := c.tell(ctx, notice{From: c.replica, Events: true}); err != nil {
		return fmt.Errorf("tell other servers of builds: %w", err)
	}
	return nil
}

func (c *Catalog) tell(ctx context.Context, n notice) error {
	if c.replica == "" {
		return nil // there are no others
	}
	message, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return c.db.Write(ctx, func(tx *sql.Tx) error { return c.db.Notify(ctx, tx, replicasChannel, string(message)) })
}

// SetTailnetNodes notes what this server shows of the nodes that agents announced to
// it, for the other servers, which hear of it, all in one transaction. Agents that are
// gone, or with another server, are skipped.
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
		return c.db.Notify(ctx, tx, replicasChannel, "")
	})
	if err != nil {
		return fmt.Errorf("note the nodes of agents: %w", err)
	}
	return nil
}

// Watch is what a server does when it hears of others. All fields are required.
type Watch struct {
	// States is called after sessions began on any server, or it learned the nodes of
	// agents; Changed after another server changed a workspace, Token after it
	// replaced a token, and Events after it stored builds, jobs or templates.
	States  func()
	Changed func(WorkspaceNotice)
	Token   func(TokenNotice)
	Events  func()
	// Again is called when something may have been said that was not heard.
	Again func()
}

// WatchReplicas listens to other servers until the context ends.
func (c *Catalog) WatchReplicas(ctx context.Context, w Watch) {
	delay := retry.New(100*time.Millisecond, 10*time.Second)
	quiet := retry.NewLog(c.log, "hear of other servers")
	for ctx.Err() == nil {
		first := true
		err := c.db.Listen(ctx, replicasChannel, func(message string) {
			quiet.Succeeded()
			delay.Reset()
			if first {
				w.Again()
			}
			first = false
			c.heard(message, w)
		})
		if err != nil {
			quiet.Failed(err)
		}
		_ = delay.Wait(ctx) // the loop sees the end
	}
}

func (c *Catalog) heard(message string, w Watch) {
	if message == "" {
		w.States()
		return
	}
	var n notice
	err := json.Unmarshal([]byte(message), &n)
	switch {
	case err != nil:
		c.log.Warn("another server on the database says what is not understood", "err", err)
	case n.From == c.replica:
	case n.TokenNotice != (TokenNotice{}):
		w.Token(n.TokenNotice)
	case n.Events:
		w.Events()
	default:
		w.Changed(n.WorkspaceNotice)
	}
}
