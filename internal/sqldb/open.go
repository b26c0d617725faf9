package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"
)

// sqliteReaders is the number of connections that read from SQLite.
const sqliteReaders = 4

// postgresConns bounds the connections that one process holds to PostgreSQL.
const postgresConns = 16

// Open opens the database that dsn names and checks that it answers: a URL that
// begins with postgres:// or postgresql:// is PostgreSQL, everything else is the
// path of an SQLite file, with or without "file:" in front. A missing SQLite
// file and its directory are created, readable by the owner only.
func Open(ctx context.Context, dsn string) (*DB, error) {
	path, isFile, err := sqliteFile(dsn)
	switch {
	case err != nil:
		return nil, err
	case isFile:
		return openSQLite(ctx, path)
	}
	return openPostgres(ctx, dsn)
}

// sqliteFile returns the absolute path of an SQLite file; isFile is false for
// PostgreSQL.
func sqliteFile(dsn string) (path string, isFile bool, err error) {
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		return "", false, nil
	}
	path = strings.TrimPrefix(dsn, "file:")
	switch {
	case strings.Contains(dsn, "://"):
		return "", false, errors.New("open database: unknown kind of data source; want postgres://... or the path of an SQLite file")
	case path == "":
		return "", false, errors.New("open database: empty path")
	case strings.ContainsRune(path, '?') || strings.Contains(path, ":memory:"):
		return "", false, errors.New("open database: want the plain path of an SQLite file, without options")
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", false, fmt.Errorf("open database: %w", err)
	}
	return path, true, nil
}

func openSQLite(ctx context.Context, path string) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	// The journal files inherit the mode of the database file, so it has to be
	// right before the first connection.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	writer, err := sql.Open("sqlite", sqliteName(path, "_txlock=immediate"))
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	writer.SetMaxOpenConns(1)
	reader, err := sql.Open("sqlite", sqliteName(path, "_pragma=query_only(1)"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), writer.Close())
	}
	reader.SetMaxOpenConns(sqliteReaders)
	reader.SetMaxIdleConns(sqliteReaders)
	d := &DB{dialect: SQLite, writer: writer, reader: reader}
	// The writer goes first: it switches the file to the write-ahead log.
	for _, pool := range []*sql.DB{writer, reader} {
		if err := pool.PingContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), d.Close())
		}
	}
	return d, nil
}

// sqliteName builds the driver's name for a connection. Commits are synchronous:
// what was acknowledged survives a power failure.
func sqliteName(path, option string) string {
	u := url.URL{Scheme: "file", Path: path}
	return u.String() + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&" + option
}

func openPostgres(ctx context.Context, dsn string) (*DB, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		// The parser's message may quote parts of a password.
		return nil, errors.New("open database: the PostgreSQL URL cannot be parsed (it is not shown, because it may hold a password); want postgres://user:password@host:port/database, with special characters percent-encoded")
	}
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(postgresConns)
	pool.SetMaxIdleConns(postgresConns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), pool.Close())
	}
	return &DB{dialect: PostgreSQL, writer: pool, reader: pool, quiet: listenQuiet}, nil
}

// isConflict reports whether a transaction failed only because of another one
// and may be tried again.
func isConflict(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == "40001" || pg.Code == "40P01" // serialization failure, deadlock
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		return lite.Code()&0xff == 5 // SQLITE_BUSY
	}
	return false
}

// IsUnique reports whether a statement failed because its row, or one with the
// same unique columns, exists.
func IsUnique(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == "23505"
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		return lite.Code() == 2067 || lite.Code() == 1555 // SQLITE_CONSTRAINT_UNIQUE, _PRIMARYKEY
	}
	return false
}
