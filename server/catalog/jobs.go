package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

// ErrForgotten: the event is about something so old that it is no longer kept. It
// may have been counted before, so it does not count.
var ErrForgotten = errors.New("too old to be counted")

// jobMemory is how long jobs are remembered, so that a repeated event is known.
const jobMemory = 35 * 24 * time.Hour

// provisionerPattern is what provisioners may be called.
var provisionerPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,32}$`)

// Job is a job of a provisioner that is no build, or an event about one. In an
// event everything but the provisioner may be left out.
type Job struct {
	ID          uuid.UUID `json:"id,omitzero"`
	Provisioner string    `json:"provisioner,omitempty"`
	Status      Status    `json:"status,omitempty"`
	CreatedAt   time.Time `json:"created_at,omitzero"`
	StartedAt   time.Time `json:"started_at,omitzero"`
	EndedAt     time.Time `json:"ended_at,omitzero"`
}

func (j Job) run() run { return eventRun(j.Status, j.CreatedAt, j.StartedAt, j.EndedAt) }

func (j Job) check() error {
	if j.ID == uuid.Nil {
		return fmt.Errorf("%w id: want a UUID that is not zero", ErrInvalid)
	}
	if j.Provisioner != "" && !provisionerPattern.MatchString(j.Provisioner) {
		return fmt.Errorf("%w provisioner: want 1 to 32 letters, digits, _, . or -", ErrInvalid)
	}
	return j.Status.check()
}

// PutJob takes an event about a job in and returns what is known of it then. The
// order of events does not matter, nor does a repetition. Another provisioner than
// before is ErrExists; an unknown job that is older than 35 days ErrForgotten.
func (c *Catalog) PutJob(ctx context.Context, event Job) (out Job, err error) {
	if err = event.check(); err == nil {
		err = c.record(ctx, func(e *events) error {
			out, err = e.putJob(event)
			return err
		})
	}
	if err != nil {
		return Job{}, fmt.Errorf("job %s: %w", event.ID, err)
	}
	return out, nil
}

func (e *events) putJob(event Job) (Job, error) {
	known, provisioner, err := e.job(event)
	if err != nil {
		return Job{}, err
	}
	if event.Provisioner != "" && event.Provisioner != provisioner {
		return Job{}, fmt.Errorf("%w: with provisioner %s", ErrExists, provisioner)
	}
	merged := known.merge(event.run(), e.now)
	if _, done := merged.duration(); done && !merged.timed {
		e.timed(provisioner, merged)
		merged.timed = true
	}
	if merged != known {
		_, err = e.tx.ExecContext(e.ctx, `UPDATE catalog_jobs SET status = $2, created_at = $3, started_at = $4, ended_at = $5, timed = $6 WHERE id = $1`,
			event.ID, string(merged.status), sqldb.Micros(merged.created), sqldb.Micros(merged.started), sqldb.Micros(merged.ended), sqldb.Bit(merged.timed))
	}
	return Job{event.ID, provisioner, merged.status, merged.created, merged.started, merged.ended}, err
}

// job returns what is known of a job, which is made if need be. The insertion also
// locks it.
func (e *events) job(event Job) (run, string, error) {
	if event.Provisioner == "" { // then it must be there
		return scanJob(e.tx.QueryRowContext(e.ctx, `UPDATE catalog_jobs SET status = status WHERE id = $1 RETURNING `+jobColumns, event.ID))
	}
	limit := e.now.Add(-jobMemory)
	for _, t := range []time.Time{event.CreatedAt, event.StartedAt, event.EndedAt} {
		if !t.IsZero() && t.Before(limit) {
			return e.oldJob(event.ID)
		}
	}
	return scanJob(e.tx.QueryRowContext(e.ctx, `INSERT INTO catalog_jobs (id, provisioner, status, created_at, started_at, ended_at, timed)
		VALUES ($1, $2, $3, $4, 0, 0, 0) ON CONFLICT (id) DO UPDATE SET status = catalog_jobs.status RETURNING `+jobColumns,
		event.ID, event.Provisioner, string(StatusPending), sqldb.Micros(e.now)))
}

func (e *events) oldJob(id uuid.UUID) (run, string, error) {
	r, p, err := scanJob(e.tx.QueryRowContext(e.ctx, `UPDATE catalog_jobs SET status = status WHERE id = $1 RETURNING `+jobColumns, id))
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w: jobs are kept for %d days", ErrForgotten, int(jobMemory.Hours()/24))
	}
	return r, p, err
}

const jobColumns = `provisioner, status, created_at, started_at, ended_at, timed`

func scanJob(row *sql.Row) (run, string, error) {
	var r run
	var provisioner string
	var created, started, ended int64
	err := row.Scan(&provisioner, &r.status, &created, &started, &ended, &r.timed)
	r.created, r.started, r.ended = sqldb.Time(created), sqldb.Time(started), sqldb.Time(ended)
	return r, provisioner, found(err, "job")
}

// Job returns what is known of a job.
func (c *Catalog) Job(ctx context.Context, id uuid.UUID) (Job, error) {
	r, provisioner, err := scanJob(c.db.Reader().QueryRowContext(ctx, `SELECT `+jobColumns+` FROM catalog_jobs WHERE id = $1`, id))
	if err != nil {
		return Job{}, fmt.Errorf("job %s: %w", id, err)
	}
	return Job{id, provisioner, r.status, r.created, r.started, r.ended}, nil
}
