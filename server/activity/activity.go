package activity

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/retry"
	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/server/ledger"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// tick is how often calls are written and people counted.
	tick = 5 * time.Second
	// writeEvery is how often one person's calls are written at most.
	writeEvery = time.Minute
	// readEvery is how often history is read.
	readEvery = time.Minute
	// late is how late windows may arrive: agents keep them for 7 days.
	late = 8 * 24 * time.Hour
	// flushTimeout bounds the last write.
	flushTimeout = 5 * time.Second
	// ahead is how far a stored time may lie in the future, for the clocks of replicas
	// differ. What is further was noted by a clock that was set back since.
	ahead = 5 * time.Minute
	// maxSeen bounds the people whose calls are kept in memory.
	maxSeen = 1 << 16
)

// The spans over which people count as active.
const (
	hour  = time.Hour
	month = 30 * 24 * time.Hour
)

// History is the ledger's presence.
type History interface {
	History(ctx context.Context, from, to time.Time, fn func(ledger.HistoryRow) error) error
}

// Options configure an Activity.
type Options struct {
	History History // required
	// Now is the wall clock, for what is stored; nil means time.Now.
	Now func() time.Time
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics. Nil keeps them private.
	Registerer prometheus.Registerer
}

// Activity knows who is active. Its methods may be called concurrently, except
// for Run, of which there is one.
type Activity struct {
	o       Options
	db      *sqldb.DB
	log     *slog.Logger
	dropped prometheus.Counter
	counts  atomic.Pointer[counts]

	mu   sync.Mutex // guards seen
	seen map[uuid.UUID]call
	// Only Run uses what follows: when history was last read, which old hour is next,
	// and which sessions were written, so that they are not written each time.
	read, old time.Time
	noted     map[uuid.UUID]time.Time
}

// call is the last call of a person, and when that was last written.
type call struct{ at, written time.Time }

// counts are the people who are active.
type counts struct{ hour, month int }

// Open migrates the tables, which need those of the catalog, and brings the
// counts up to date. The database stays the caller's.
func Open(ctx context.Context, db *sqldb.DB, o Options) (*Activity, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, "activity", files); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Activity{o: o, db: db, log: o.Log, dropped: newDropped(o.Registerer), seen: make(map[uuid.UUID]call), noted: make(map[uuid.UUID]time.Time)}
	if err := a.catchUp(ctx, o.Now()); err != nil {
		return nil, fmt.Errorf("read who was active: %w", err)
	}
	return a, nil
}

func newDropped(reg prometheus.Registerer) prometheus.Counter {
	return promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "worktally_activity_dropped_total",
		Help: "Calls of people that were not noted as activity, for want of room.",
	})
}

// Seen notes that a person has called the API now. It does not wait for the
// database.
func (a *Activity) Seen(user uuid.UUID) {
	now := a.o.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	c, known := a.seen[user]
	if !known && len(a.seen) >= maxSeen {
		a.dropped.Inc()
		return
	}
	c.at = now
	a.seen[user] = c
}

// Run writes and counts until the context ends, and then writes what is left.
func (a *Activity) Run(ctx context.Context) error {
	quiet := retry.NewLog(a.log, "note who is active")
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if err := a.refresh(ctx, a.o.Now()); err == nil {
				quiet.Succeeded()
			} else if ctx.Err() == nil {
				quiet.Failed(err)
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
			defer cancel()
			if err := a.flush(last, a.o.Now(), true); err != nil {
				a.log.Warn("write the last calls of people", "err", err)
			}
			return nil
		}
	}
}

// refresh does what is due. What fails keeps the old counts and is tried again.
func (a *Activity) refresh(ctx context.Context, now time.Time) error {
	errs := []error{a.flush(ctx, now, false)}
	if now.Sub(a.read).Abs() >= readEvery {
		errs = append(errs, a.readHistory(ctx, now.Add(-hour), now), a.readOld(ctx, now))
	}
	return errors.Join(append(errs, a.count(ctx, now))...)
}

// Fill adds the families of people who are active.
func (a *Activity) Fill(b *exposition.Builder) {
	_ = b.Add("coderd_api_active_users_duration_hour", float64(a.counts.Load().hour))
}

// Month returns how many people were active in the last 30 days.
func (a *Activity) Month() int { return a.counts.Load().month }
