package ledger

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/worktally/worktally/internal/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Component is the ledger's name in the database, and what its tables begin with.
const Component = "ledger"

const (
	// queueSize bounds the submissions that wait for the writer; beyond it
	// Commit waits for a place.
	queueSize = 4096
	// groupSize bounds the submissions of one transaction.
	groupSize = 256
	// commitTimeout bounds one transaction.
	commitTimeout = 30 * time.Second
)

// Options configure a Ledger. The zero value works.
type Options struct {
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Now is the wall clock, for what is stored; nil means time.Now.
	Now func() time.Time
	// Registerer receives the ledger's metrics. Nil keeps them private.
	Registerer prometheus.Registerer
}

// Ledger stores reports. Its methods may be called concurrently.
type Ledger struct {
	db      *sqldb.DB
	metrics *metrics
	now     func() time.Time
	queue   chan *request
	started atomic.Bool
	stopped chan struct{}

	// disk tells of a full or broken disk; only the writer uses it.
	disk diskLog
	// groups tells of groups that failed; only the writer uses it.
	groups groupLog
	// families of the deployment's totals, for their bound; only the writer uses it.
	deployment map[totalKey]struct{}
}

// request is a submission on its way through the writer.
type request struct {
	sub  Submission
	once sync.Once // whoever does it first: the writer takes it, or the caller gives it up
	done chan struct{}
	out  Outcome
	err  error
}

// claim returns true to exactly one of the two sides.
func (r *request) claim() (mine bool) {
	r.once.Do(func() { mine = true })
	return mine
}

// Open migrates the tables and returns a ledger on db, which stays the caller's.
// Nothing is committed before Run.
func Open(ctx context.Context, db *sqldb.DB, o Options) (*Ledger, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, Component, files); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	queue := make(chan *request, queueSize)
	return &Ledger{
		db: db, now: o.Now, queue: queue, stopped: make(chan struct{}),
		metrics: newMetrics(o.Registerer, queue), disk: diskLog{log: o.Log}, groups: groupLog{log: o.Log},
	}, nil
}

// Commit stores a submission and returns after the commit. An error means that
// nothing of it was stored and that the same submission may be tried again; it
// wraps ErrClosed once Run has ended. Commit waits for Run; bound it with ctx.
func (l *Ledger) Commit(ctx context.Context, s Submission) (Outcome, error) {
	s.Arrival = s.Arrival.Truncate(time.Microsecond) // what the database keeps
	s.AgentName, s.TemplateName = clean(s.AgentName), clean(s.TemplateName)
	r := &request{sub: s, done: make(chan struct{})}
	select {
	case l.queue <- r:
	case <-ctx.Done():
		l.metrics.unqueued.Inc()
		return Outcome{}, fmt.Errorf("wait for the ledger: %w", ctx.Err())
	case <-l.stopped:
		return Outcome{}, ErrClosed
	}
	select {
	case <-r.done:
		return r.out, r.err
	case <-ctx.Done():
		if r.claim() {
			l.metrics.unqueued.Inc()
			return Outcome{}, fmt.Errorf("wait for the ledger: %w", ctx.Err())
		}
	case <-l.stopped:
		if r.claim() {
			return Outcome{}, ErrClosed
		}
	}
	<-r.done // the writer has it, and its transactions are bounded
	return r.out, r.err
}

// clean makes a string fit for both databases.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
}
