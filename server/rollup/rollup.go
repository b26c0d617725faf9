package rollup

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/retry"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/ledger"
)

// Catalog is what is read about builds; a *catalog.Catalog.
type Catalog interface {
	BuildTotals(ctx context.Context, now time.Time, fn func(catalog.BuildTotal) error) error
	LatestBuilds(ctx context.Context) ([]catalog.LatestBuilds, error)
	Counts(ctx context.Context) (catalog.Counts, error)
	RunningJobs(ctx context.Context, now time.Time) (map[string]int64, error)
	ChosenParameters(ctx context.Context, since time.Time, fn func(catalog.ChosenParameter) error) error
	TemplatesInUse(ctx context.Context, most int) ([]string, error)
	TidyBuilds(ctx context.Context, now time.Time) (int, error)
}

// Ledger is where the history of sessions is read; a *ledger.Ledger.
type Ledger interface {
	History(ctx context.Context, from, to time.Time, fn func(ledger.HistoryRow) error) error
}

// Options of a Rollup.
type Options struct {
	Catalog Catalog           // required
	Ledger  Ledger            // required
	Table   *exposition.Table // required
	Log     *slog.Logger      // nil discards
	Now     func() time.Time  // the wall clock, which stored times are compared with; nil means time.Now
	// Tell tells others of a change; there may have been more. Nil: there are none.
	Tell func(context.Context)
	// Registerer receives the metrics about the work itself. Nil keeps them private.
	Registerer prometheus.Registerer
}

// Rollup keeps the rows. Its methods are safe for concurrent use.
type Rollup struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	// changed and stale hold one signal each: the builds are to be made anew, and after
	// changed others are to be told.
	changed, stale chan struct{}

	builds, insights atomic.Pointer[exposition.Row]
}

const (
	// refreshAtLeast: states also change by time alone, and others may not be heard.
	refreshAtLeast = time.Minute
	// refreshPause and refreshShare bound the load of many changes at once: after a
	// refresh there is a pause, twice as long as it took if that is more, but so
	// short that a change is on the page within a second of a refresh that is fast.
	refreshPause = 200 * time.Millisecond
	refreshShare = 2
	// refreshRetry is the pause after a refresh that failed.
	refreshRetry = 5 * time.Second
	// refreshTimeout bounds one refresh.
	refreshTimeout = 30 * time.Second
)

// New returns a rollup without rows. Run makes them.
func New(o Options) (*Rollup, error) {
	if o.Catalog == nil || o.Ledger == nil || o.Table == nil {
		return nil, errors.New("Catalog, Ledger and Table are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Tell == nil {
		o.Tell = func(context.Context) {}
	}
	return &Rollup{o: o, log: o.Log, metrics: newMetrics(o.Registerer), changed: make(chan struct{}, 1), stale: make(chan struct{}, 1)}, nil
}

// Rows returns the last good rows. It waits for nothing.
func (r *Rollup) Rows() []*exposition.Row {
	var rows []*exposition.Row
	for _, p := range []*atomic.Pointer[exposition.Row]{&r.builds, &r.insights} {
		if row := p.Load(); row != nil {
			rows = append(rows, row)
		}
	}
	return rows
}

// Changed says that builds, jobs, templates or workspaces were changed here, which
// others are told. It does not wait.
func (r *Rollup) Changed() { signal(r.changed) }

// Stale says that they may have changed, and that nobody need be told. It does not wait.
func (r *Rollup) Stale() { signal(r.stale) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is known already
	}
}

// Refresh makes all rows once. What fails keeps its last good row.
func (r *Rollup) Refresh(ctx context.Context) error {
	return errors.Join(r.refresh(ctx, partBuilds), r.refresh(ctx, partInsights))
}

// Run keeps the rows fresh until the context ends. Call Refresh before.
func (r *Rollup) Run(ctx context.Context) error {
	quiet := map[string]*retry.Log{partBuilds: retry.NewLog(r.log, "refresh builds"), partInsights: retry.NewLog(r.log, "refresh insights")}
	refresh := func(part string) bool {
		err := r.refresh(ctx, part)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			quiet[part].Failed(err)
		default:
			quiet[part].Succeeded()
		}
		return err == nil
	}
	tick := time.NewTicker(refreshAtLeast)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			r.tidy(ctx)
			refresh(partBuilds)
			refresh(partInsights)
			continue
		case <-r.changed:
			r.o.Tell(ctx)
		case <-r.stale:
		}
		began := time.Now()
		pause := refreshRetry
		if refresh(partBuilds) {
			pause = max(refreshPause, refreshShare*time.Since(began))
		} else {
			r.Stale() // the change is still to be shown
		}
		if retry.Sleep(ctx, pause) != nil {
			return nil
		}
	}
}

// refresh makes one of the rows anew.
func (r *Rollup) refresh(ctx context.Context, part string) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	began := time.Now()
	build, to := r.buildRow, &r.builds
	if part == partInsights {
		build, to = r.insightRow, &r.insights
	}
	row, err := build(ctx, r.o.Now())
	r.metrics.refreshed(part, began, err)
	if err != nil {
		return err
	}
	to.Store(row)
	return nil
}

// tidy ends what was deleted long enough ago.
func (r *Rollup) tidy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	if _, err := r.o.Catalog.TidyBuilds(ctx, r.o.Now()); err != nil && ctx.Err() == nil {
		r.log.Warn("tidy builds", "err", err)
	}
}
