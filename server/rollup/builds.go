package rollup

import (
	"cmp"
	"context"
	"math"
	"time"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/catalog"
)

// action is the transition as counters of builds write it.
func action(t catalog.Transition) string {
	switch t {
	case catalog.TransitionStart:
		return "START"
	case catalog.TransitionStop:
		return "STOP"
	}
	return "DESTROY"
}

// buildRow makes the row of builds and jobs.
func (r *Rollup) buildRow(ctx context.Context, now time.Time) (*exposition.Row, error) {
	b := r.o.Table.NewBuilder(exposition.Names{})
	for _, fill := range []func(context.Context, *exposition.Builder, time.Time) error{r.fillBuilds, r.fillLatest, r.fillCounts, r.fillRunning} {
		if err := fill(ctx, b, now); err != nil {
			return nil, err
		}
	}
	b.FillZeros(func(f *exposition.Family) bool {
		switch f.Name {
		case familyAll, familyUnlisted, familyLatest, familyLatestOld, familyRunning:
			return true
		}
		return false
	})
	return b.Row(), nil
}

// The families whose labels are fixed.
const (
	familyAll       = "worktally_builds_total"
	familyUnlisted  = "worktally_builds_unlisted_total"
	familyLatest    = "coderd_api_workspace_latest_build"
	familyLatestOld = "coderd_api_workspace_latest_build_total"
	familyRunning   = "coderd_provisionerd_jobs_current"
	familyTimings   = "coderd_provisionerd_job_timings_seconds"
)

// fillBuilds adds the builds that ended. What deleted workspaces counted goes on to
// be part of a series of the same labels that is alive: it would fall otherwise.
func (r *Rollup) fillBuilds(ctx context.Context, b *exposition.Builder, now time.Time) error {
	t := newTally(familyBuilds)
	err := r.o.Catalog.BuildTotals(ctx, now, func(n catalog.BuildTotal) error {
		t.add(float64(n.Value), n.Shown, r.o.Table.Only(familyBuilds,
			label("action", action(n.Transition)),
			label("owner_email", cmp.Or(n.Email, n.Owner)),
			label("status", n.Result),
			label("template_name", orUnknown(n.Template.Name)),
			label("template_version", orUnknown(n.Template.Version)),
			label("workspace_name", n.Workspace),
			label("workspace_owner", n.Owner),
			label("workspace_transition", action(n.Transition)))...)
		return nil
	})
	if err != nil {
		return err
	}
	return r.fill(b, t)
}

// fillLatest adds the workspaces by their latest build.
func (r *Rollup) fillLatest(ctx context.Context, b *exposition.Builder, _ time.Time) error {
	latest, err := r.o.Catalog.LatestBuilds(ctx)
	if err != nil {
		return err
	}
	byStatus := make(map[catalog.Status]float64)
	t := newTally(familyLatestStatus)
	for _, l := range latest {
		n := float64(l.Workspaces)
		byStatus[l.Status] += n
		t.add(n, true,
			label("status", string(l.Status)),
			label("template_name", orUnknown(l.Template.Name)),
			label("template_version", orUnknown(l.Template.Version)),
			label("workspace_owner", l.Owner),
			label("workspace_transition", string(l.Transition)))
	}
	for status, n := range byStatus {
		for _, family := range []string{familyLatest, familyLatestOld} {
			if _, _, listed := r.o.Table.Lookup(family); !listed {
				continue
			}
			if err := b.Add(family, n, label("status", string(status))); err != nil {
				return err
			}
		}
	}
	return r.fill(b, t)
}

// fillCounts adds what never falls.
func (r *Rollup) fillCounts(ctx context.Context, b *exposition.Builder, _ time.Time) error {
	counts, err := r.o.Catalog.Counts(ctx)
	if err != nil {
		return err
	}
	for _, n := range counts.Builds {
		if err := b.Add(familyAll, n.Value, label("status", n.Result), label("workspace_transition", action(n.Transition))); err != nil {
			return err
		}
	}
	if err := b.Add(familyUnlisted, counts.Unlisted); err != nil {
		return err
	}
	for _, t := range withZeros(counts.Timings) {
		if err := addTiming(b, t); err != nil {
			return err
		}
	}
	return nil
}

// usualProvisioner is shown before anything happened.
const usualProvisioner = "terraform"

// withZeros adds empty histograms of the usual provisioner where it has none, and of
// the other result where a provisioner has only one.
func withZeros(timings []catalog.JobTiming) []catalog.JobTiming {
	have := make(map[[2]string]bool)
	provisioners := map[string]bool{usualProvisioner: true}
	for _, t := range timings {
		have[[2]string{t.Provisioner, t.Result}] = true
		provisioners[t.Provisioner] = true
	}
	for p := range provisioners {
		for _, result := range []string{catalog.StatusSucceeded.Result(), catalog.StatusFailed.Result()} {
			if !have[[2]string{p, result}] {
				timings = append(timings, catalog.JobTiming{Provisioner: p, Result: result, Buckets: make([]float64, len(catalog.JobBuckets())+1)})
			}
		}
	}
	return timings
}

func addTiming(b *exposition.Builder, t catalog.JobTiming) error {
	labels := []exposition.Label{label("provisioner", t.Provisioner), label("status", t.Result)}
	n := 0.0
	for i, bound := range append(catalog.JobBuckets(), math.Inf(1)) {
		n += t.Buckets[i]
		if err := b.Add(familyTimings+"_bucket", n, append(labels[:2:2], label("le", exposition.FormatBound(bound)))...); err != nil {
			return err
		}
	}
	if err := b.Add(familyTimings+"_sum", t.Seconds, labels...); err != nil {
		return err
	}
	return b.Add(familyTimings+"_count", n, labels...)
}

// maxRunning bounds the provisioners whose running jobs are told apart.
const maxRunning = 32

// fillRunning adds the jobs that run now.
func (r *Rollup) fillRunning(ctx context.Context, b *exposition.Builder, now time.Time) error {
	running, err := r.o.Catalog.RunningJobs(ctx, now)
	if err != nil {
		return err
	}
	for provisioner, n := range bounded(running, maxRunning) {
		if err := b.Add(familyRunning, float64(n), label("provisioner", provisioner)); err != nil {
			return err
		}
	}
	return nil
}
