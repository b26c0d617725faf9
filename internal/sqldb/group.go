package sqldb

import (
	"context"
	"database/sql"
	"sync"
	"time"
)

const (
	// groupSize bounds the functions of one transaction.
	groupSize = 256
	// groupTimeout bounds one transaction.
	groupTimeout = 30 * time.Second
)

// Group writes for many callers in few transactions, because each commit waits
// for the disk: what comes while one transaction is committed makes up the next.
// It is safe for concurrent use.
type Group struct {
	db *DB

	// mu guards what follows. Whoever waits is in waiting, so its size is bounded by
	// the callers.
	mu      sync.Mutex
	waiting []*groupJob
	running bool
}

type groupJob struct {
	fn   func(context.Context, *sql.Tx) error
	done chan struct{}
	err  error
}

// NewGroup returns a group that writes to db.
func NewGroup(db *DB) *Group { return &Group{db: db} }

// Write is like DB.Write, except that the transaction may be shared: fn may run
// again if another caller's failed, and it runs even if ctx ends after it was
// called. fn must use the context that it is given.
func (g *Group) Write(ctx context.Context, fn func(context.Context, *sql.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j := &groupJob{fn: fn, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, j)
	if !g.running {
		g.running = true
		go g.run() // until nobody waits
	}
	g.mu.Unlock()
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *Group) run() {
	for {
		g.mu.Lock()
		n := min(len(g.waiting), groupSize)
		jobs := g.waiting[:n:n]
		g.waiting = g.waiting[n:]
		if n == 0 {
			g.waiting, g.running = nil, false
		}
		g.mu.Unlock()
		if n == 0 {
			return
		}
		g.commit(jobs)
	}
}

// commit runs the functions in one transaction. If that fails each has one of its
// own, so that a bad one fails alone; a disk that fails does so for all.
func (g *Group) commit(jobs []*groupJob) {
	err := g.transact(jobs)
	for i, j := range jobs {
		switch {
		case err == nil:
		case len(jobs) == 1, FaultOf(err) != NoFault:
			j.err = err
		default:
			j.err = g.transact(jobs[i : i+1])
		}
		close(j.done)
	}
}

func (g *Group) transact(jobs []*groupJob) error {
	ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
	defer cancel()
	return g.db.Write(ctx, func(tx *sql.Tx) error {
		for _, j := range jobs {
			if err := j.fn(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
}
