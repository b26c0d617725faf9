package agentapi

import (
	"context"
	"errors"
	"sync"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

// What is written late if the database's disk refuses it: without it there would
// be no session, and without a session nobody would reach the workspace.
const (
	lateConnected = "connected"
	lateStartup   = "startup"
	lateLifecycle = "lifecycle"
)

type lateKey struct {
	agent uuid.UUID
	what  string
}

type lateWrite func(context.Context) error

// lateWrites are the newest states of agents that wait for a disk with room. There
// is one of each kind for an agent at most. They are lost with the process.
type lateWrites struct {
	c  *counts
	mu sync.Mutex
	// waiting stay in here while they are written, so that newer ones are not
	// overtaken.
	waiting map[lateKey]*lateWrite
}

func newLateWrites(c *counts) *lateWrites {
	return &lateWrites{c: c, waiting: make(map[lateKey]*lateWrite)}
}

// try writes now, or later if the disk refuses. Other errors are the caller's.
func (l *lateWrites) try(ctx context.Context, agent uuid.UUID, what string, write lateWrite) error {
	key := lateKey{agent, what}
	l.mu.Lock()
	_, waits := l.waiting[key]
	if waits {
		l.waiting[key] = &write
	}
	l.mu.Unlock()
	if !waits {
		err := write(ctx)
		if sqldb.FaultOf(err) == sqldb.NoFault {
			return err
		}
		l.mu.Lock()
		l.waiting[key] = &write
		l.mu.Unlock()
	}
	l.c.add("worktally_late_writes_total", "what", what, 1)
	return nil
}

// flush writes what waits, until the disk refuses again. connected says whether
// an agent has a session now; that it had one is not worth telling any more.
func (l *lateWrites) flush(ctx context.Context, connected func(uuid.UUID) bool) error {
	l.mu.Lock()
	now := make(map[lateKey]*lateWrite, len(l.waiting))
	for key, write := range l.waiting {
		now[key] = write
	}
	l.mu.Unlock()
	var errs []error
	for key, write := range now {
		if key.what != lateConnected || connected(key.agent) {
			err := (*write)(ctx)
			if sqldb.FaultOf(err) != sqldb.NoFault || ctx.Err() != nil {
				return errors.Join(append(errs, err)...)
			}
			errs = append(errs, err) // the agent is gone, say: trying again is of no use
		}
		l.mu.Lock()
		if l.waiting[key] == write {
			delete(l.waiting, key)
		}
		l.mu.Unlock()
	}
	return errors.Join(errs...)
}
