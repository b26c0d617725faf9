package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
)

// Guard is how a server opens its database.
type Guard struct {
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Heals names the component whose tables may be empty after damage, because
	// their content comes back by itself.
	Heals string
	// SetAside lets a damaged database be replaced by an empty one even if more than
	// Heals is lost.
	SetAside bool
	// now is for tests.
	now func() time.Time
}

// Open is like the function Open, for the one server that may use an SQLite file
// at a time. The file is locked until Close and checked. One that is damaged is
// set aside under a new name, which the log tells, and replaced by one with every
// table that can be read whole; only the component that heals may be missing
// there. If anything else is damaged that is an error, unless SetAside allows an
// empty one. PostgreSQL looks after itself.
func (g Guard) Open(ctx context.Context, dsn string) (*DB, error) {
	if g.Log == nil {
		g.Log = slog.New(slog.DiscardHandler)
	}
	if g.now == nil {
		g.now = time.Now
	}
	path, isFile, err := sqliteFile(dsn)
	if err != nil {
		return nil, err
	}
	if !isFile {
		return Open(ctx, dsn)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if path, err = ownName(path); err != nil {
		return nil, err
	}
	held, err := lock(path)
	if err != nil {
		return nil, err
	}
	d, err := g.openLocked(ctx, path)
	if err != nil {
		return nil, errors.Join(err, held.Close())
	}
	d.held = held
	return d, nil
}

// ownName returns the name of a file that may be named by a link. Locks and journals
// go by the name, so that two servers would each have their own.
func ownName(path string) (string, error) {
	name, err := filepath.EvalSymlinks(path)
	if err == nil {
		return name, nil
	}
	if _, linkErr := os.Lstat(path); linkErr == nil {
		return "", fmt.Errorf("open database: %s is a link that leads nowhere; name the file itself: %w", path, err)
	}
	return path, nil // it is made
}

func (g Guard) openLocked(ctx context.Context, path string) (*DB, error) {
	r := replacement{path: path, log: g.Log, stamp: g.now().UTC().Format("20060102T150405Z")}
	aside, err := r.finish() // what an earlier start began
	if err != nil {
		return nil, err
	}
	d, damage, err := openChecked(ctx, path, g.Log)
	if err != nil {
		return nil, err
	}
	if damage != "" {
		g.Log.Error("the database is damaged", "path", path, "damage", damage)
		if err := g.rescue(ctx, r, damage); err != nil {
			return nil, err
		}
		if aside, err = r.finish(); err != nil {
			return nil, err
		}
		if d, err = openSQLite(ctx, path); err != nil {
			return nil, err
		}
	}
	d.aside = aside
	return d, nil
}

// emptyFile is the damage of a file without content. One that was just made has some
// from the moment that it is a database; before that it can be removed.
const emptyFile = "it has 0 bytes; remove it if there never was anything in it"

// openChecked opens a file and checks it. If it is damaged it says how, and the
// file is closed again. The check reads the whole file: 1.5 GB/s from memory.
func openChecked(ctx context.Context, path string, log *slog.Logger) (d *DB, damage string, err error) {
	// SQLite would take it for a new one, and a server would begin anew without a word.
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		return nil, emptyFile, nil
	}
	began := time.Now()
	if d, err = openSQLite(ctx, path); err == nil {
		damage, err = check(ctx, d.writer, `PRAGMA quick_check(1)`)
	}
	if isDamage(err) {
		damage, err = err.Error(), nil
	}
	if err == nil && damage == "" {
		log.Info("the database was checked", "path", path, "took", time.Since(began).Round(time.Millisecond))
		return d, "", nil
	}
	if d != nil {
		err = errors.Join(err, d.Close())
	}
	if err != nil {
		return nil, "", fmt.Errorf("check database %s: %w", path, err)
	}
	return nil, damage, nil
}

// querier is a DB or a Tx.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// check runs one of SQLite's checks and returns its complaint, "" for none.
func check(ctx context.Context, q querier, pragma string) (complaint string, err error) {
	if err := q.QueryRowContext(ctx, pragma).Scan(&complaint); err != nil {
		return "", err
	}
	if complaint == "ok" {
		complaint = ""
	}
	return strings.TrimSpace(complaint), nil
}

// isDamage tells a file that is no sound database from one that cannot be read
// or written for other reasons.
func isDamage(err error) bool {
	lite, ok := errors.AsType[*sqlite.Error](err)
	return ok && (lite.Code()&0xff == 11 || lite.Code()&0xff == 26) // SQLITE_CORRUPT, SQLITE_NOTADB
}

// Aside returns where the damaged database is that this one took the place of
// when it was opened, "" if there was none.
func (d *DB) Aside() string { return d.aside }

// closeHeld gives the lock up.
func closeHeld(c io.Closer) error {
	if c == nil {
		return nil
	}
	return c.Close()
}
