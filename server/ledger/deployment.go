package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/worktally/worktally/wire/worktallypb"
)

// maxDeployment bounds the series of the deployment's totals: labels come from
// agents, and these rows never go away.
const maxDeployment = 20000

// totalKey is the primary key of a total.
type totalKey struct{ name, labels string }

// deploymentTotals collects what a group adds to the totals of the deployment.
type deploymentTotals struct {
	grown   map[string]diff // by seriesKey
	added   []totalKey
	dropped int
}

func (d *deploymentTotals) add(grown []diff) {
	if d.grown == nil {
		d.grown = make(map[string]diff)
	}
	for _, g := range grown {
		key := seriesKey(g.series)
		d.grown[key] = diff{g.series, d.grown[key].by + g.by}
	}
}

// save writes the sums, in the order of their keys: see the package comment.
func (d *deploymentTotals) save(t *txn, known map[totalKey]struct{}) error {
	rows := make(map[totalKey]float64, len(d.grown))
	for _, g := range d.grown {
		key, err := keyOf(g.series)
		if err != nil {
			return err
		}
		rows[key] += g.by
	}
	for _, key := range slices.SortedFunc(maps.Keys(rows), compareKeys) {
		_, seen := known[key]
		query := upsertTotal
		if !seen && len(known)+len(d.added) >= maxDeployment {
			query = updateTotal // another process may have made the row
		}
		n, err := t.exec(query, key.name, key.labels, rows[key])
		switch {
		case err != nil:
			return fmt.Errorf("write the deployment's totals: %w", err)
		case n == 0:
			d.dropped++
		case !seen:
			d.added = append(d.added, key)
		}
	}
	return nil
}

// keyOf returns the key of a series. No labels have one form, whether there is a list
// of none or no list.
func keyOf(s *worktallypb.Series) (totalKey, error) {
	list := s.GetLabels()
	if len(list) == 0 {
		list = nil
	}
	labels, err := json.Marshal(list)
	return totalKey{clean(s.GetName()), string(labels)}, err
}

// remember notes the rows that exist after the commit.
func (d *deploymentTotals) remember(known map[totalKey]struct{}) {
	for _, key := range d.added {
		known[key] = struct{}{}
	}
}

func compareKeys(a, b totalKey) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.labels, b.labels))
}

// DeploymentTotals returns the totals of all agents together, sorted by name and
// labels. They include agents and workspaces that are gone.
func (l *Ledger) DeploymentTotals(ctx context.Context) ([]*worktallypb.Series, error) {
	var list []*worktallypb.Series
	err := l.eachTotal(ctx, func(key totalKey, value float64) error {
		s := &worktallypb.Series{Name: key.name, Value: value}
		if err := json.Unmarshal([]byte(key.labels), &s.Labels); err != nil {
			return err
		}
		list = append(list, s)
		return nil
	})
	return list, err
}

func (l *Ledger) deploymentKeys(ctx context.Context) (map[totalKey]struct{}, error) {
	known := map[totalKey]struct{}{}
	err := l.eachTotal(ctx, func(key totalKey, _ float64) error {
		known[key] = struct{}{}
		return nil
	})
	return known, err
}

func (l *Ledger) eachTotal(ctx context.Context, fn func(totalKey, float64) error) error {
	rows, err := l.db.Reader().QueryContext(ctx, `SELECT name, labels, value FROM ledger_deployment ORDER BY name, labels`)
	if err != nil {
		return fmt.Errorf("read the deployment's totals: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var key totalKey
		var value float64
		if err := rows.Scan(&key.name, &key.labels, &value); err != nil {
			return fmt.Errorf("read the deployment's totals: %w", err)
		}
		if err := fn(key, value); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the deployment's totals: %w", err)
	}
	return nil
}
