package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/wire/agentpb"
)

// maxText bounds the short texts that agents tell about themselves.
const maxText = 4096

// SetConnected notes that a session began, and that this server holds it. Other
// servers hear of it at once if the database can tell them.
func (c *Catalog) SetConnected(ctx context.Context, agentID uuid.UUID, apiVersion string, at time.Time) error {
	err := c.db.Write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE catalog_states SET api_version = $2, last_connected_at = $3, disconnected_at = 0,
			first_connected_at = CASE WHEN first_connected_at = 0 THEN $3 ELSE first_connected_at END, replica = $4 WHERE agent_id = $1`,
			agentID, cut(clean(apiVersion), maxText), sqldb.Micros(at), c.replica)
		return errors.Join(oneRow(res, err), c.db.Notify(ctx, tx, replicasChannel, ""))
	})
	if err != nil {
		return fmt.Errorf("note the session of agent %s: %w", agentID, err)
	}
	return nil
}

const (
	// touchChunk is how many agents one statement of Heartbeat covers.
	touchChunk = 500
	// lostAfter is longer than the heartbeats of a session are apart, and than the
	// clocks of two servers are.
	lostAfter = 10 * time.Minute
)

// Heartbeat notes that the sessions of these agents live, all in one
// transaction. Agents that are gone, or live with another server, are skipped. One
// that is said to be with another server, and to have no session there or to be silent
// for long, is with this one: what the other wrote late was about an older session.
func (c *Catalog) Heartbeat(ctx context.Context, agentIDs []uuid.UUID, at time.Time) error {
	lost := at.Add(-lostAfter).UnixMicro() // a server that died says no end
	return c.touch(ctx, agentIDs, at, `last_connected_at = $1, disconnected_at = 0, replica = $2`,
		`(replica = $2 OR disconnected_at > 0 OR last_connected_at < `+strconv.FormatInt(lost, 10)+`)`)
}

// SetDisconnected notes that the sessions of these agents ended, all in one
// transaction, unless that is known already. Agents that are gone, or with another
// server, are skipped.
func (c *Catalog) SetDisconnected(ctx context.Context, agentIDs []uuid.UUID, at time.Time) error {
	return c.touch(ctx, agentIDs, at, `disconnected_at = $1`, `replica = $2 AND disconnected_at = 0`)
}

// EndSessions notes that no session is left that an earlier process of this server
// held and did not see the end of. Call it before the first begins. When that was
// nobody knows: the last heartbeat stands for it.
func (c *Catalog) EndSessions(ctx context.Context) error {
	err := c.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE catalog_states SET disconnected_at = last_connected_at
			WHERE replica = $1 AND disconnected_at = 0 AND last_connected_at > 0`, c.replica)
		return err
	})
	if err != nil {
		return fmt.Errorf("end the sessions of an earlier process: %w", err)
	}
	return nil
}

func (c *Catalog) touch(ctx context.Context, ids []uuid.UUID, at time.Time, set, where string) error {
	if len(ids) == 0 {
		return nil
	}
	// One order for all, so that two servers do not wait for each other in a circle.
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	err := c.db.Write(ctx, func(tx *sql.Tx) error {
		for chunk := range slices.Chunk(ids, touchChunk) {
			args := []any{sqldb.Micros(at), c.replica}
			marks := make([]string, len(chunk))
			for i, id := range chunk {
				args = append(args, id)
				marks[i] = "$" + strconv.Itoa(i+3)
			}
			if _, err := tx.ExecContext(ctx, `UPDATE catalog_states SET `+set+` WHERE `+where+` AND agent_id IN (`+strings.Join(marks, ", ")+`)`, args...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note who is connected: %w", err)
	}
	return nil
}

// SetStartup stores what the agent said when it started.
func (c *Catalog) SetStartup(ctx context.Context, agentID uuid.UUID, version, expandedDirectory string, subsystems []agentpb.Startup_Subsystem) error {
	subsystems = slices.Compact(slices.Sorted(slices.Values(subsystems)))
	if len(subsystems) > 32 {
		return fmt.Errorf("store the startup: %w: %d subsystems", ErrInvalid, len(subsystems))
	}
	list, err := json.Marshal(append([]agentpb.Startup_Subsystem{}, subsystems...))
	if err != nil {
		return err
	}
	return c.updateState(ctx, "store the startup", agentID, `version = $2, expanded_directory = $3, subsystems = $4`,
		cut(clean(version), maxText), cut(clean(expandedDirectory), maxText), string(list))
}

// SetLifecycle stores the agent's lifecycle state, in whatever order states
// come. A zero time becomes now; an unknown state is ErrInvalid. An agent that
// starts gets room for its log.
func (c *Catalog) SetLifecycle(ctx context.Context, agentID uuid.UUID, state agentpb.Lifecycle_State, changedAt time.Time) error {
	if _, known := agentpb.Lifecycle_State_name[int32(state)]; !known || state == agentpb.Lifecycle_STATE_UNSPECIFIED {
		return fmt.Errorf("store the lifecycle state: %w state %d", ErrInvalid, state)
	}
	if changedAt.IsZero() {
		changedAt = c.now()
	}
	set := `lifecycle = $2, lifecycle_changed_at = $3`
	switch state {
	case agentpb.Lifecycle_STARTING:
		set += `, started_at = $3, ready_at = 0`
	case agentpb.Lifecycle_READY, agentpb.Lifecycle_START_TIMEOUT, agentpb.Lifecycle_START_ERROR:
		set += `, ready_at = $3, started_at = CASE WHEN started_at = 0 THEN $3 ELSE started_at END`
	}
	if state == agentpb.Lifecycle_STARTING {
		if err := c.makeLogRoom(ctx, agentID); err != nil {
			return err
		}
	}
	return c.updateState(ctx, "store the lifecycle state", agentID, set, int64(state), sqldb.Micros(changedAt))
}

// updateState sets columns of one agent's state; $1 is the agent. When a server
// comes back all its agents do this at once.
func (c *Catalog) updateState(ctx context.Context, what string, agentID uuid.UUID, set string, args ...any) error {
	err := c.states.Write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE catalog_states SET `+set+` WHERE agent_id = $1`, append([]any{agentID}, args...)...)
		return oneRow(res, err)
	})
	if err != nil {
		return fmt.Errorf("%s of agent %s: %w", what, agentID, err)
	}
	return nil
}
