package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

// MaxGrace bounds how long a replaced token may stay valid.
const MaxGrace = 30 * 24 * time.Hour

// Rotation is a token that has replaced another.
type Rotation struct {
	AgentID uuid.UUID
	// Token is the new one; it cannot be read again.
	Token string
	// OldEnds is when the old one ends by this server's clock, zero if it has ended.
	OldEnds time.Time
}

// RotateAgentToken is ReplaceAgentToken without grace.
func (c *Catalog) RotateAgentToken(ctx context.Context, workspaceID uuid.UUID, agentName string) (agentID uuid.UUID, token string, err error) {
	r, err := c.ReplaceAgentToken(ctx, workspaceID, agentName, 0)
	return r.AgentID, r.Token, err
}

// ReplaceAgentToken replaces the token of a workspace's agent. The old one stays valid
// for the grace, 0 to MaxGrace, and the one that it replaced ends at once: there are
// never more than two. Sessions that were opened with what is no longer valid are the
// caller's to drop.
func (c *Catalog) ReplaceAgentToken(ctx context.Context, workspaceID uuid.UUID, agentName string, grace time.Duration) (Rotation, error) {
	if grace < 0 || grace > MaxGrace {
		return Rotation{}, fmt.Errorf("rotate the agent token: %w grace: %s is not between 0 and %s", ErrInvalid, grace, MaxGrace)
	}
	r := Rotation{Token: newAgentToken()}
	if grace > 0 {
		r.OldEnds = c.now().Add(grace).UTC().Truncate(time.Microsecond)
	}
	err := c.db.Write(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `UPDATE catalog_agents SET old_token_hash = CASE WHEN CAST($4 AS BIGINT) > 0 THEN token_hash END, old_token_ends = $4, token_hash = $3
			WHERE workspace_id = $1 AND name = $2 RETURNING id`,
			workspaceID, clean(agentName), hashToken(r.Token), sqldb.Micros(r.OldEnds)).Scan(&r.AgentID)
		return found(err, "agent %q", clean(agentName))
	})
	if err != nil {
		return Rotation{}, fmt.Errorf("rotate the agent token: %w", err)
	}
	return r, nil
}
