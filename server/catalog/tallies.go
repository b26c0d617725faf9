package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/worktally/worktally/internal/sqldb"
)

// runningAtMost is how long a job may run: what began earlier is taken for lost.
const runningAtMost = 24 * time.Hour

// BuildTotal is how many builds of a workspace ended.
type BuildTotal struct {
	Workspace, Owner, Email string
	Template                Template
	Transition              Transition
	// Result is success or failed.
	Result string
	Value  int64
	// Shown is false for a workspace that was deleted and last built more than an
	// hour ago.
	Shown bool
}

// BuildTotals calls fn for every series of builds that ended, until fn returns an
// error, which it returns. A workspace that was deleted stays until TidyBuilds.
func (c *Catalog) BuildTotals(ctx context.Context, now time.Time, fn func(BuildTotal) error) error {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT w.name, u.username, u.email, t.template_name, t.template_version, t.transition, t.status, t.value,
		w.deleted_at, t.updated_at FROM catalog_build_totals t JOIN catalog_workspaces w ON w.id = t.workspace_id JOIN catalog_users u ON u.id = w.owner_id`)
	if err != nil {
		return fmt.Errorf("read build totals: %w", err)
	}
	defer rows.Close()
	from, to := lingering(now)
	for rows.Next() {
		var t BuildTotal
		var deleted, updated int64
		if err := rows.Scan(&t.Workspace, &t.Owner, &t.Email, &t.Template.Name, &t.Template.Version, &t.Transition, &t.Result, &t.Value, &deleted, &updated); err != nil {
			return fmt.Errorf("read build totals: %w", err)
		}
		last := max(deleted, updated)
		t.Shown = deleted == 0 || from < last && last <= to
		if err := fn(t); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read build totals: %w", err)
	}
	return nil
}

// LatestBuilds is how many workspaces of an owner have the same kind of latest
// build.
type LatestBuilds struct {
	Owner      string
	Template   Template
	Transition Transition
	Status     Status
	Workspaces int64
}

// LatestBuilds counts workspaces by their latest build. Those without one are not
// counted, nor those that are deleted, or whose latest build deleted them.
func (c *Catalog) LatestBuilds(ctx context.Context) ([]LatestBuilds, error) {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT u.username, b.template_name, b.template_version, b.transition, b.status, COUNT(*)
		FROM catalog_build_heads h JOIN catalog_builds b ON b.workspace_id = h.workspace_id AND b.number = h.latest
		JOIN catalog_workspaces w ON w.id = h.workspace_id JOIN catalog_users u ON u.id = w.owner_id
		WHERE w.deleted_at = 0 AND NOT (b.transition = $1 AND b.status = $2)
		GROUP BY u.username, b.template_name, b.template_version, b.transition, b.status`, string(TransitionDelete), string(StatusSucceeded))
	if err != nil {
		return nil, fmt.Errorf("read latest builds: %w", err)
	}
	list, err := collect(rows, func(r rowScanner) (l LatestBuilds, err error) {
		return l, r.Scan(&l.Owner, &l.Template.Name, &l.Template.Version, &l.Transition, &l.Status, &l.Workspaces)
	})
	if err != nil {
		return nil, fmt.Errorf("read latest builds: %w", err)
	}
	return list, nil
}

// Counts are of the whole deployment; they never fall.
type Counts struct {
	Builds   []BuildCount
	Unlisted float64
	Timings  []JobTiming
}

// BuildCount is how many builds ever ended.
type BuildCount struct {
	Transition Transition
	Result     string
	Value      float64
}

// JobTiming is the distribution of the durations of a provisioner's jobs.
type JobTiming struct {
	Provisioner, Result string
	// Buckets are how many took as long as the bound of the same index at most, but
	// longer than the one before; the last is without bound.
	Buckets []float64
	Seconds float64
}

// Counts returns the counts of the deployment.
func (c *Catalog) Counts(ctx context.Context) (Counts, error) {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT name, first, second, value FROM catalog_counts ORDER BY name, first, second`)
	if err != nil {
		return Counts{}, fmt.Errorf("read counts: %w", err)
	}
	type count struct {
		countKey
		value float64
	}
	list, err := collect(rows, func(r rowScanner) (n count, err error) {
		return n, r.Scan(&n.name, &n.first, &n.second, &n.value)
	})
	if err != nil {
		return Counts{}, fmt.Errorf("read counts: %w", err)
	}
	var out Counts
	for _, n := range list {
		switch n.name {
		case countBuilds:
			out.Builds = append(out.Builds, BuildCount{Transition(n.first), n.second, n.value})
		case countUnlisted:
			out.Unlisted = n.value
		case countSeconds:
			out.timing(n.countKey).Seconds = n.value
		default:
			if i, err := strconv.Atoi(strings.TrimPrefix(n.name, countBucket)); err == nil && i >= 0 && i <= len(JobBuckets()) {
				out.timing(n.countKey).Buckets[i] = n.value
			}
		}
	}
	return out, nil
}

func (c *Counts) timing(k countKey) *JobTiming {
	i := slices.IndexFunc(c.Timings, func(t JobTiming) bool { return t.Provisioner == k.first && t.Result == k.second })
	if i < 0 {
		i = len(c.Timings)
		c.Timings = append(c.Timings, JobTiming{Provisioner: k.first, Result: k.second, Buckets: make([]float64, len(JobBuckets())+1)})
	}
	return &c.Timings[i]
}

// RunningJobs returns how many jobs, and builds with a provisioner, run now.
func (c *Catalog) RunningJobs(ctx context.Context, now time.Time) (map[string]int64, error) {
	const open = ` WHERE ended_at = 0 AND started_at > $1 AND status IN ('running', 'canceling') AND provisioner <> ''`
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT provisioner, COUNT(*) FROM (SELECT provisioner FROM catalog_jobs`+open+`
		UNION ALL SELECT provisioner FROM catalog_builds`+open+`) AS running GROUP BY provisioner`, sqldb.Micros(now.Add(-runningAtMost)))
	if err != nil {
		return nil, fmt.Errorf("read running jobs: %w", err)
	}
	running := make(map[string]int64)
	_, err = collect(rows, func(r rowScanner) (struct{}, error) {
		var name string
		var n int64
		err := r.Scan(&name, &n)
		running[name] = n
		return struct{}{}, err
	})
	if err != nil {
		return nil, fmt.Errorf("read running jobs: %w", err)
	}
	return running, nil
}

// ChosenParameter is the value that a workspace's latest build gave a parameter.
type ChosenParameter struct {
	Template, Name string
	// Type is empty if the version of the template is not known, or does not know
	// the parameter.
	Type string
	// Value is Redacted unless it is marked safe.
	Value string
}

// ChosenParameters calls fn for the parameters of every workspace's latest build, if
// that was created at a time or later, until fn returns an error, which it returns.
func (c *Catalog) ChosenParameters(ctx context.Context, since time.Time, fn func(ChosenParameter) error) error {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT b.template_name, b.parameters, COALESCE(v.parameters, '[]')
		FROM catalog_builds b JOIN catalog_build_heads h ON h.workspace_id = b.workspace_id AND h.latest = b.number
		LEFT JOIN catalog_templates t ON t.name = b.template_name
		LEFT JOIN catalog_template_versions v ON v.template_id = t.id AND v.name = b.template_version
		WHERE b.created_at >= $1`, sqldb.Micros(since))
	if err != nil {
		return fmt.Errorf("read parameters: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var template, values, declared string
		if err := rows.Scan(&template, &values, &declared); err != nil {
			return fmt.Errorf("read parameters: %w", err)
		}
		if err := eachChosen(template, values, declared, fn); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read parameters: %w", err)
	}
	return nil
}

func eachChosen(template, valuesJSON, declaredJSON string, fn func(ChosenParameter) error) error {
	var values map[string]string
	var declared []Parameter
	if err := json.Unmarshal([]byte(valuesJSON), &values); err != nil {
		return fmt.Errorf("read parameters: %w", err)
	}
	if err := json.Unmarshal([]byte(declaredJSON), &declared); err != nil {
		return fmt.Errorf("read parameters: %w", err)
	}
	for name, value := range values {
		p := ChosenParameter{Template: template, Name: name, Value: Redacted}
		if i := slices.IndexFunc(declared, func(p Parameter) bool { return p.Name == name }); i >= 0 {
			p.Type = declared[i].Type
			if declared[i].Safe {
				p.Value = value
			}
		}
		if err := fn(p); err != nil {
			return err
		}
	}
	return nil
}

// TemplatesInUse returns the names of the templates of the workspaces that there
// are, sorted, as many as asked for at most.
func (c *Catalog) TemplatesInUse(ctx context.Context, most int) ([]string, error) {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT DISTINCT template_name FROM catalog_workspaces WHERE deleted_at = 0 ORDER BY template_name LIMIT $1`, most)
	if err != nil {
		return nil, fmt.Errorf("read templates in use: %w", err)
	}
	return collect(rows, func(r rowScanner) (s string, err error) { return s, r.Scan(&s) })
}
