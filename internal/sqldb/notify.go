package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Notify tells everybody who listens to the channel, in this process and in others,
// once the transaction is committed. The message has less than 8000 bytes. On SQLite,
// which one process has for itself, it does nothing.
func (d *DB) Notify(ctx context.Context, tx *sql.Tx, channel, message string) error {
	if d.dialect != PostgreSQL {
		return nil
	}
	_, err := tx.ExecContext(ctx, `SELECT pg_notify($1, $2)`, channel, message)
	return err
}

const (
	// listenQuiet is how long nothing may be heard until the connection is tried: the
	// host at its other end may be gone without a word.
	listenQuiet = 15 * time.Second
	pingTimeout = 5 * time.Second
)

// Listen calls heard with the message of every Notify, and once with "" when it
// begins, because something may have been said before. It holds a connection of its
// own, and returns when the context ends (nil) or the connection is broken, of which it
// knows within 20 s. On SQLite it waits for the context.
func (d *DB) Listen(ctx context.Context, channel string, heard func(message string)) error {
	if d.dialect != PostgreSQL {
		<-ctx.Done()
		return nil
	}
	conn, err := d.writer.Conn(ctx)
	if err == nil {
		err = conn.Raw(func(c any) error {
			pg := c.(*stdlib.Conn).Conn()
			if _, err := pg.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
				return err
			}
			for message := ""; ; {
				heard(message)
				n, err := d.nextNotification(ctx, pg)
				if err != nil {
					// Nobody else may have a connection that listens.
					return errors.Join(err, driver.ErrBadConn)
				}
				message = n.Payload
			}
		})
		_ = conn.Close() // it is broken
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("listen to %s: %w", channel, err)
}

// nextNotification waits for as long as the connection lives.
func (d *DB) nextNotification(ctx context.Context, pg *pgx.Conn) (*pgconn.Notification, error) {
	for {
		quiet, cancel := context.WithTimeout(ctx, d.quiet)
		n, err := pg.WaitForNotification(quiet)
		cancel()
		if err == nil || ctx.Err() != nil || !pgconn.Timeout(err) {
			return n, err
		}
		alive, cancel := context.WithTimeout(ctx, pingTimeout)
		err = pg.Ping(alive)
		cancel()
		if err != nil {
			return nil, err
		}
	}
}
