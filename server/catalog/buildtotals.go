package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

const (
	// maxTotals bounds the series of builds that ended, of one workspace. Further
	// ones count in the deployment's count only.
	maxTotals = 256
	// totalsLinger is how long the totals of a workspace are shown after it was
	// deleted or last built, so that what its last build counted is seen.
	totalsLinger = time.Hour
)

// countBuild counts a build that has ended, unless it was counted. One that is new
// and goes on makes series of 0 for whatever will become of it, so that a first end
// is seen as an increase.
func (e *events) countBuild(b buildRow, isNew, counted, firstOfWorkspace bool) error {
	t := buildTotal{b.WorkspaceID, string(b.Transition), "", b.Template.Name, b.Template.Version, 0}
	switch {
	case b.run.status.Ended() && !counted:
		t.status, t.value = b.run.status.Result(), 1
		e.counts[countKey{countBuilds, t.transition, t.status}]++
		return e.addTotal(t, e.now, firstOfWorkspace)
	case b.run.status.Ended() || !isNew:
		return nil
	}
	for _, s := range []Status{StatusSucceeded, StatusFailed} {
		t.status = s.Result()
		if err := e.addTotal(t, e.now, firstOfWorkspace); err != nil {
			return err
		}
	}
	return nil
}

// buildTotal is a row of catalog_build_totals.
type buildTotal struct {
	workspace                                     uuid.UUID
	transition, status, template, templateVersion string
	value                                         int64
}

// addTotal adds to a series of a workspace, whose head is locked. fits says that
// there is room for a new one for sure.
func (e *events) addTotal(t buildTotal, at time.Time, fits bool) error {
	key := []any{t.workspace, t.transition, t.status, t.template, t.templateVersion, t.value, sqldb.Micros(at)}
	if !fits {
		res, err := e.tx.ExecContext(e.ctx, `UPDATE catalog_build_totals SET value = value + $6, updated_at = $7
			WHERE workspace_id = $1 AND transition = $2 AND status = $3 AND template_name = $4 AND template_version = $5`, key...)
		if err = oneRow(res, err); !errors.Is(err, ErrNotFound) {
			return err
		}
		var n int
		if err := e.tx.QueryRowContext(e.ctx, `SELECT COUNT(*) FROM catalog_build_totals WHERE workspace_id = $1`, t.workspace).Scan(&n); err != nil {
			return err
		}
		if n >= maxTotals {
			if t.value > 0 {
				e.counts[countKey{countUnlisted, "", ""}] += float64(t.value)
			}
			return nil
		}
	}
	_, err := e.tx.ExecContext(e.ctx, `INSERT INTO catalog_build_totals (workspace_id, transition, status, template_name, template_version, value, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (workspace_id, transition, status, template_name, template_version)
		DO UPDATE SET value = catalog_build_totals.value + excluded.value, updated_at = excluded.updated_at`, key...)
	return err
}

// lingering returns between which times, the first left out, a workspace was deleted
// or last built whose totals are still shown. What is later than the end was noted by
// a clock that was set back since.
func lingering(now time.Time) (from, to int64) {
	return sqldb.Micros(now.Add(-totalsLinger)), sqldb.Micros(now.Add(totalsLinger))
}

// tidyBatch bounds the workspaces that one transaction of TidyBuilds covers.
const tidyBatch = 200

// TidyBuilds ends the totals of workspaces that were deleted at least an hour ago:
// they go to the living workspace that has the same owner and name, whose series
// would fall otherwise, or end. Jobs that are too old are forgotten. It returns how
// many workspaces it ended.
func (c *Catalog) TidyBuilds(ctx context.Context, now time.Time) (ended int, err error) {
	from, to := lingering(now)
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT w.id FROM catalog_workspaces w
		JOIN catalog_build_totals t ON t.workspace_id = w.id WHERE w.deleted_at > 0
		GROUP BY w.id, w.deleted_at HAVING (CASE WHEN MAX(t.updated_at) > w.deleted_at THEN MAX(t.updated_at) ELSE w.deleted_at END) NOT BETWEEN $1 AND $2
		LIMIT $3`, from+1, to, tidyBatch)
	if err != nil {
		return 0, fmt.Errorf("tidy builds: %w", err)
	}
	dead, err := collect(rows, func(r rowScanner) (id uuid.UUID, err error) { return id, r.Scan(&id) })
	if err != nil {
		return 0, fmt.Errorf("tidy builds: %w", err)
	}
	for _, id := range dead {
		if err := c.record(ctx, func(e *events) error { return e.inherit(id) }); err != nil {
			return ended, fmt.Errorf("tidy builds: %w", err)
		}
		ended++
	}
	err = c.record(ctx, func(e *events) error {
		_, err := e.tx.ExecContext(ctx, `DELETE FROM catalog_jobs WHERE created_at < $1`, sqldb.Micros(now.Add(-jobMemory)))
		return err
	})
	if err != nil {
		return ended, fmt.Errorf("tidy jobs: %w", err)
	}
	return ended, nil
}

// inherit gives the totals of a deleted workspace to its living namesake, if there
// is one, and drops them otherwise.
func (e *events) inherit(dead uuid.UUID) error {
	var heir uuid.NullUUID
	err := e.tx.QueryRowContext(e.ctx, `SELECT (SELECT a.id FROM catalog_workspaces a WHERE a.owner_id = d.owner_id AND a.name = d.name AND a.deleted_at = 0)
		FROM catalog_workspaces d WHERE d.id = $1`, dead).Scan(&heir)
	if err = found(err, "workspace"); errors.Is(err, ErrNotFound) {
		return nil // gone, totals and all
	} else if err != nil {
		return err
	}
	if heir.Valid {
		if _, err := e.lockHead(heir.UUID); err != nil {
			return err
		}
	}
	rows, err := e.tx.QueryContext(e.ctx, `DELETE FROM catalog_build_totals WHERE workspace_id = $1
		RETURNING transition, status, template_name, template_version, value, updated_at`, dead)
	if err != nil {
		return err
	}
	type dated struct {
		buildTotal
		at int64
	}
	totals, err := collect(rows, func(r rowScanner) (d dated, err error) {
		return d, r.Scan(&d.transition, &d.status, &d.template, &d.templateVersion, &d.value, &d.at)
	})
	if err != nil || !heir.Valid {
		return err
	}
	for _, d := range totals {
		d.workspace = heir.UUID
		if err := e.addTotal(d.buildTotal, sqldb.Time(d.at), false); err != nil {
			return err
		}
	}
	return nil
}
