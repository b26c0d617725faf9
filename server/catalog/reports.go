package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/wire/agentpb"
)

const (
	// maxMetadataValue bounds a metadata value and its error, in bytes.
	maxMetadataValue = 2048
	// maxMetadataKeys bounds the keys of one report together, in bytes.
	maxMetadataKeys = 6144
)

// SetAppHealth stores the health of apps, all or nothing. An app that the agent
// does not have, or that has no health check, is ErrNotFound; a health that is
// unspecified is ErrInvalid.
func (c *Catalog) SetAppHealth(ctx context.Context, agentID uuid.UUID, updates []AppHealth) error {
	if len(updates) == 0 {
		return nil
	}
	err := c.db.Write(ctx, func(tx *sql.Tx) error {
		for _, u := range updates {
			if _, known := agentpb.AppHealth_name[int32(u.Health)]; !known || u.Health == agentpb.AppHealth_APP_HEALTH_UNSPECIFIED {
				return fmt.Errorf("%w health %d of app %s", ErrInvalid, u.Health, u.AppID)
			}
			res, err := tx.ExecContext(ctx, `UPDATE catalog_apps SET health = $3 WHERE agent_id = $1 AND app_id = $2 AND checked = 1`,
				agentID, u.AppID, int64(u.Health))
			if err := oneRow(res, err); err != nil {
				return fmt.Errorf("app %s with a health check: %w", u.AppID, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store app health: %w", err)
	}
	return nil
}

// AppHealths returns the health of every app of an agent.
func (c *Catalog) AppHealths(ctx context.Context, agentID uuid.UUID) ([]AppHealth, error) {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT app_id, health FROM catalog_apps WHERE agent_id = $1 ORDER BY app_id`, agentID)
	if err != nil {
		return nil, fmt.Errorf("read app health: %w", err)
	}
	return collect(rows, func(r rowScanner) (h AppHealth, err error) { return h, r.Scan(&h.AppID, &h.Health) })
}

// SetMetadata stores collected values at the server's time. Values of keys that
// the agent does not have are ignored; long values and errors are cut. If the
// keys together are too long, what fits is stored and the rest is ErrInvalid.
func (c *Catalog) SetMetadata(ctx context.Context, agentID uuid.UUID, values []MetadataValue) error {
	if len(values) == 0 {
		return nil
	}
	now, dropped := sqldb.Micros(c.now()), 0
	err := c.db.Write(ctx, func(tx *sql.Tx) error {
		size := 0
		dropped = 0
		for i, v := range values {
			if size += len(v.Key); size > maxMetadataKeys {
				dropped = len(values) - i
				break
			}
			value, problem := boundMetadata(v)
			if _, err := tx.ExecContext(ctx, `UPDATE catalog_metadata SET value = $3, error = $4, collected_at = $5
				WHERE agent_id = $1 AND name = $2`, agentID, clean(v.Key), value, problem, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && dropped > 0 {
		err = fmt.Errorf("%w: the keys are longer than %d bytes together; the last %d were dropped", ErrInvalid, maxMetadataKeys, dropped)
	}
	if err != nil {
		return fmt.Errorf("store metadata: %w", err)
	}
	return nil
}

func boundMetadata(v MetadataValue) (value, problem string) {
	value, problem = clean(v.Value), clean(v.Error)
	if len(value) > maxMetadataValue {
		problem = fmt.Sprintf("the value has %d bytes and was cut to %d", len(value), maxMetadataValue)
		value = cut(value, maxMetadataValue)
	}
	if len(problem) > maxMetadataValue {
		problem = fmt.Sprintf("the error has %d bytes, more than the %d that are kept", len(problem), maxMetadataValue)
	}
	return value, problem
}

// MetadataValues returns the values of every key of an agent, by key.
func (c *Catalog) MetadataValues(ctx context.Context, agentID uuid.UUID) ([]MetadataValue, error) {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT name, value, error, collected_at FROM catalog_metadata WHERE agent_id = $1 ORDER BY name`, agentID)
	if err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	return collect(rows, func(r rowScanner) (v MetadataValue, err error) {
		var at int64
		err = r.Scan(&v.Key, &v.Value, &v.Error, &at)
		v.CollectedAt = sqldb.Time(at)
		return v, err
	})
}

// SetResourcesUsage stores the newest point of resource usage.
func (c *Catalog) SetResourcesUsage(ctx context.Context, agentID uuid.UUID, newest *agentpb.PushResourcesMonitoringUsageRequest_Datapoint) error {
	blob, err := proto.Marshal(newest)
	if err != nil {
		return fmt.Errorf("store the resources usage: %w", err)
	}
	return c.updateState(ctx, "store the resources usage", agentID, `resources = $2`, blob)
}

// ResourcesUsage returns the newest point of resource usage, nil if there is none.
func (c *Catalog) ResourcesUsage(ctx context.Context, agentID uuid.UUID) (*agentpb.PushResourcesMonitoringUsageRequest_Datapoint, error) {
	var blob []byte
	err := c.db.Reader().QueryRowContext(ctx, `SELECT resources FROM catalog_states WHERE agent_id = $1`, agentID).Scan(&blob)
	if errors.Is(err, sql.ErrNoRows) || (err == nil && blob == nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the resources usage: %w", err)
	}
	var p agentpb.PushResourcesMonitoringUsageRequest_Datapoint
	if err := proto.Unmarshal(blob, &p); err != nil {
		return nil, fmt.Errorf("read the resources usage: %w", err)
	}
	return &p, nil
}
