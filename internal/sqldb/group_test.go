package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"testing/fstest"
	"time"
)

// TestGroup_SharesAndFailsAlone has many write at once, one of them something bad:
// all others succeed, in fewer transactions than there are callers.
func TestGroup_SharesAndFailsAlone(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		if err := db.Migrate(t.Context(), "x", fstest.MapFS{"0001_a.sql": {Data: []byte(
			`CREATE TABLE counted (id BIGINT PRIMARY KEY, n BIGINT NOT NULL); INSERT INTO counted VALUES (1, 0);`)}}); err != nil {
			t.Fatal(err)
		}
		g := NewGroup(db)
		bad := errors.New("bad")
		var mu sync.Mutex
		transactions := make(map[*sql.Tx]bool)
		// Nobody's transaction begins before all wait: the first one's takes that long.
		const callers = 100
		begun, all := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		write := func(fn func(context.Context, *sql.Tx) error, want error) {
			wg.Go(func() {
				if err := g.Write(t.Context(), fn); !errors.Is(err, want) {
					t.Errorf("Write = %v, want %v", err, want)
				}
			})
		}
		add := func(ctx context.Context, tx *sql.Tx) error {
			mu.Lock()
			transactions[tx] = true
			mu.Unlock()
			_, err := tx.ExecContext(ctx, `UPDATE counted SET n = n + 1 WHERE id = 1`)
			return err
		}
		write(func(ctx context.Context, tx *sql.Tx) error { close(begun); <-all; return add(ctx, tx) }, nil)
		<-begun
		for range callers {
			write(add, nil)
		}
		waitFor(t, g, callers)
		close(all)
		wg.Wait()
		if len(transactions) != 2 {
			t.Errorf("%d transactions", len(transactions))
		}
		begun, all = make(chan struct{}), make(chan struct{})
		write(func(context.Context, *sql.Tx) error { close(begun); <-all; return nil }, nil)
		<-begun
		for range callers {
			write(add, nil)
		}
		write(func(context.Context, *sql.Tx) error { return bad }, bad)
		waitFor(t, g, callers+1)
		close(all)
		wg.Wait()
		var n int
		if err := db.Reader().QueryRow(`SELECT n FROM counted WHERE id = 1`).Scan(&n); err != nil || n != 1+2*callers {
			t.Errorf("counted %d, %v", n, err)
		}
	})
}

func TestGroup_GivesUp(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		g := NewGroup(open(t, dsn))
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		err := g.Write(ctx, func(context.Context, *sql.Tx) error { cancel(); <-release; return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Write = %v", err)
		}
		close(release)
		if err := g.Write(ctx, func(context.Context, *sql.Tx) error { t.Error("it ran"); return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("Write = %v", err)
		}
		if err := g.Write(t.Context(), func(context.Context, *sql.Tx) error { return nil }); err != nil {
			t.Error(err)
		}
	})
}

// waitFor returns when as many wait.
func waitFor(t *testing.T, g *Group, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		g.mu.Lock()
		waiting := len(g.waiting)
		g.mu.Unlock()
		if waiting == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, not %d", waiting, n)
		}
	}
}
