package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// countKey is the primary key of a count of the whole deployment.
type countKey struct{ name, first, second string }

// The names of counts.
const (
	countBuilds   = "builds"          // by transition and result
	countUnlisted = "builds_unlisted" // of those, the ones without a series of their workspace
	countBucket   = "job_bucket_"     // and the index of the bucket; by provisioner and result
	countSeconds  = "job_seconds"     // by provisioner and result
)

// JobBuckets returns the upper bounds of the durations of jobs, in seconds; +Inf
// follows.
func JobBuckets() []float64 { return []float64{1, 10, 30, 60, 300, 600, 1800, 3600} }

const (
	// maxProvisioners bounds the provisioners that are told apart.
	maxProvisioners = 32
	// OtherProvisioner stands for those for which there is no room.
	OtherProvisioner = "other"
)

// events is one transaction of events of a control plane. What it adds to the
// counts of the deployment is written once, at its end: all transactions need the
// same few rows.
type events struct {
	ctx    context.Context
	tx     *sql.Tx
	now    time.Time
	counts map[countKey]float64
	// declared remembers the parameters of versions that were looked up.
	declared map[Template][]Parameter
}

// record runs fn in a transaction.
func (c *Catalog) record(ctx context.Context, fn func(*events) error) error {
	return c.db.Write(ctx, func(tx *sql.Tx) error {
		e := &events{ctx: ctx, tx: tx, now: c.now().UTC().Truncate(time.Microsecond), counts: make(map[countKey]float64), declared: make(map[Template][]Parameter)}
		if err := fn(e); err != nil {
			return err
		}
		return e.flush()
	})
}

// timed counts the duration of a run that has ended.
func (e *events) timed(provisioner string, r run) {
	d, ok := r.duration()
	if !ok {
		return
	}
	bucket, _ := slices.BinarySearch(JobBuckets(), d.Seconds())
	result := r.status.Result()
	e.counts[countKey{countBucket + strconv.Itoa(bucket), provisioner, result}]++
	e.counts[countKey{countSeconds, provisioner, result}] += d.Seconds()
}

// flush writes the counts in the order of their keys, so that two transactions do
// not wait for each other in a circle.
func (e *events) flush() error {
	if err := e.foldProvisioners(); err != nil {
		return err
	}
	for _, k := range slices.SortedFunc(maps.Keys(e.counts), compareCounts) {
		_, err := e.tx.ExecContext(e.ctx, `INSERT INTO catalog_counts (name, first, second, value) VALUES ($1, $2, $3, $4)
			ON CONFLICT (name, first, second) DO UPDATE SET value = catalog_counts.value + excluded.value`, k.name, k.first, k.second, e.counts[k])
		if err != nil {
			return fmt.Errorf("write the counts: %w", err)
		}
	}
	return nil
}

func compareCounts(a, b countKey) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.first, b.first), cmp.Compare(a.second, b.second))
}

// foldProvisioners gives those provisioners for which there is no room the name of
// the others.
func (e *events) foldProvisioners() error {
	named := make(map[string]bool)
	for k := range e.counts {
		if k.name == countSeconds {
			named[k.first] = true
		}
	}
	if len(named) == 0 {
		return nil
	}
	rows, err := e.tx.QueryContext(e.ctx, `SELECT DISTINCT first FROM catalog_counts WHERE name = $1`, countSeconds)
	if err != nil {
		return err
	}
	known, err := collect(rows, func(r rowScanner) (s string, err error) { return s, r.Scan(&s) })
	if err != nil {
		return err
	}
	for _, p := range slices.Sorted(maps.Keys(named)) {
		switch {
		case slices.Contains(known, p):
		case len(known) < maxProvisioners:
			known = append(known, p)
		default:
			e.renameProvisioner(p)
		}
	}
	return nil
}

func (e *events) renameProvisioner(from string) {
	for k, v := range maps.Clone(e.counts) {
		if k.first == from && k.name != countBuilds {
			delete(e.counts, k)
			e.counts[countKey{k.name, OtherProvisioner, k.second}] += v
		}
	}
}
