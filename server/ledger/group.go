package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/worktally/worktally/internal/sqldb"
)

// Run is the writer. It owns all writing until ctx ends, then commits what is
// already queued and returns nil. It runs once.
func (l *Ledger) Run(ctx context.Context) error {
	if l.started.Swap(true) {
		return errors.New("BUG: the ledger runs already")
	}
	defer close(l.stopped)
	// The writer does not work under ctx: a stop must not tear a transaction down,
	// and what is queued when it comes is still committed.
	work := context.WithoutCancel(ctx)
	stmts, closeAll, err := l.prepare(work)
	if err != nil {
		return err
	}
	defer closeAll()
	for {
		select {
		case <-ctx.Done():
			for len(l.queue) > 0 {
				l.commit(work, stmts, l.gather(<-l.queue))
			}
			return nil
		case r := <-l.queue:
			l.commit(work, stmts, l.gather(r))
		}
	}
}

// prepare prepares the writer's statements and reads the deployment's series.
func (l *Ledger) prepare(ctx context.Context) (map[string]*sql.Stmt, func(), error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	stmts := map[string]*sql.Stmt{}
	closeAll := func() {
		for _, s := range stmts {
			s.Close()
		}
	}
	for _, query := range statements() {
		s, err := l.db.Prepare(ctx, query)
		if err != nil {
			closeAll()
			return nil, nil, fmt.Errorf("prepare the ledger's statements: %w", err)
		}
		stmts[query] = s
	}
	known, err := l.deploymentKeys(ctx)
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	l.deployment = known
	return stmts, closeAll, nil
}

// gather takes whatever waits, without waiting for more: while one transaction
// is committed the next group collects by itself. The group is sorted by agent,
// so that several processes take the rows in one order; submissions of one agent
// stay in their order.
func (l *Ledger) gather(first *request) []*request {
	var group []*request
	for r := first; ; {
		if r.claim() { // else the caller has given up
			group = append(group, r)
		}
		if len(group) == groupSize {
			break
		}
		select {
		case r = <-l.queue:
			continue
		default:
		}
		break
	}
	slices.SortStableFunc(group, func(a, b *request) int {
		return cmp.Or(
			slices.Compare(a.sub.WorkspaceID[:], b.sub.WorkspaceID[:]),
			cmp.Compare(a.sub.AgentName, b.sub.AgentName))
	})
	return group
}

// commit stores a group and answers its callers. If the group fails, each
// submission is tried alone, so that a bad one fails alone. A disk that is full or
// broken fails for all: they are answered at once, and agents keep what they sent
// until it is taken.
func (l *Ledger) commit(ctx context.Context, stmts map[string]*sql.Stmt, group []*request) {
	if len(group) == 0 {
		return
	}
	err := l.transact(ctx, stmts, group)
	fault := sqldb.FaultOf(err)
	switch {
	case fault != sqldb.NoFault:
		l.metrics.refusedByDisk.WithLabelValues(fault.String()).Add(float64(len(group)))
		l.disk.refused(err, len(group))
	case err == nil:
		l.disk.stored()
	}
	if err != nil && fault == sqldb.NoFault && len(group) > 1 {
		l.groups.failed(err, len(group))
		ctx, cancel := context.WithTimeout(ctx, commitTimeout) // for all of them
		defer cancel()
		for i := range group {
			l.commit(ctx, stmts, group[i:i+1])
		}
		return
	}
	for _, r := range group {
		if err != nil {
			r.out, r.err = Outcome{}, fmt.Errorf("store the report of agent %q: %w", r.sub.AgentName, err)
		}
		close(r.done)
	}
}

// transact runs one transaction over a group and fills in the outcomes.
func (l *Ledger) transact(ctx context.Context, stmts map[string]*sql.Stmt, group []*request) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	var tallies []*tally
	var totals deploymentTotals
	err := l.db.Write(ctx, func(tx *sql.Tx) error {
		tallies = tallies[:0]
		totals = deploymentTotals{}
		t := &txn{ctx: ctx, tx: tx, stmts: stmts}
		for _, r := range group {
			c, err := t.store(&r.sub)
			if err != nil {
				return err
			}
			r.out = c.outcome
			tallies = append(tallies, &c.tally)
			totals.add(c.grown)
		}
		return totals.save(t, l.deployment)
	})
	if err != nil {
		l.metrics.failures.Inc()
		return err
	}
	l.metrics.commits.Inc()
	l.metrics.duration.Observe(time.Since(began).Seconds())
	for _, t := range tallies {
		l.metrics.add(t)
	}
	totals.remember(l.deployment)
	l.metrics.dropped.WithLabelValues(droppedDeployment).Add(float64(totals.dropped))
	return nil
}

// maxMoves bounds how often one submission is read again because another process
// wrote the same agent. The row is locked at the first write that succeeds.
const maxMoves = 20

func (t *txn) store(s *Submission) (*change, error) {
	for range maxMoves {
		a, err := t.load(s)
		if err != nil {
			return nil, err
		}
		if a.forgotten {
			return refuseAll(s), nil
		}
		c := a.apply(s)
		if err := t.save(s, a, c); !errors.Is(err, errMoved) {
			return c, err
		}
	}
	return nil, errMoved
}
