package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"
)

// Dialect says which database is behind a DB.
type Dialect int

// The databases that Open knows.
const (
	SQLite Dialect = iota
	PostgreSQL
)

// String returns the database's name.
func (d Dialect) String() string {
	if d == PostgreSQL {
		return "PostgreSQL"
	}
	return "SQLite"
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	dialect Dialect
	writer  *sql.DB
	reader  *sql.DB   // the writer itself on PostgreSQL
	held    io.Closer // the lock of a Guard, or nil
	aside   string
	faults  faults
	// quiet is how long Listen may hear nothing until it tries its connection.
	quiet time.Duration
}

// Dialect returns which database this is.
func (d *DB) Dialect() Dialect { return d.dialect }

// Close closes all connections and waits for running statements.
func (d *DB) Close() error {
	if d.reader == d.writer {
		return d.writer.Close()
	}
	return errors.Join(d.reader.Close(), d.writer.Close(), closeHeld(d.held))
}

// Ping checks that the database answers.
func (d *DB) Ping(ctx context.Context) error { return d.reader.PingContext(ctx) }

// Reader returns the pool for statements that only read. The caller does not
// close it.
func (d *DB) Reader() *sql.DB { return d.reader }

// maxAttempts bounds how often Write runs its function when the database says
// that a concurrent transaction was in the way.
const maxAttempts = 8

// Write runs fn in a transaction that may write, commits it, and returns fn's or
// the commit's error. When the database reports a conflict with a concurrent
// transaction the whole of fn runs again, so fn must not leave traces outside
// the transaction. An error means that nothing was written, except for a
// connection that died during the commit itself.
func (d *DB) Write(ctx context.Context, fn func(*sql.Tx) error) (err error) {
	defer func() { d.faults.note(err) }()
	for attempt := range maxAttempts {
		if err = d.writeOnce(ctx, fn); err == nil || !isConflict(err) {
			return err
		}
		timer := time.NewTimer(time.Duration(attempt+1) * 5 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w (last attempt: %w)", ctx.Err(), err)
		case <-timer.C:
		}
	}
	return fmt.Errorf("gave up after %d attempts: %w", maxAttempts, err)
}

func (d *DB) writeOnce(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := d.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer tx.Rollback() // after the commit this does nothing
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}

// Micros converts a time to what is stored. The zero time becomes 0.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Time is the inverse of Micros.
func Time(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// Bit converts a truth value to what is stored.
func Bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// Prepare prepares a statement for use inside the transactions of Write, through
// Tx.StmtContext. The caller closes it.
func (d *DB) Prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	return d.writer.PrepareContext(ctx, query)
}
