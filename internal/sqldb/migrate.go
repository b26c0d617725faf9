package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
)

// migrationName is NNNN_what.sql; the numbers start at 1 and have no gaps.
var migrationName = regexp.MustCompile(`^([0-9]{4})_[a-z0-9_]+\.sql$`)

// migrationLock is the key of the advisory lock that keeps two servers from
// migrating one PostgreSQL database at once ("worktaly" in ASCII).
const migrationLock = 0x776f726b74616c79

// versionsTable has the version of each component's tables.
const versionsTable = "schema_versions"

// Migrate brings the tables of one component up to date: it runs those of the
// numbered .sql files at the root of files that the database has not seen, all
// in one transaction and under a lock. A database that is newer than files is
// refused.
func (d *DB) Migrate(ctx context.Context, component string, files fs.FS) error {
	steps, err := readMigrations(files)
	if err != nil {
		return fmt.Errorf("migrate %s: %w", component, err)
	}
	err = d.Write(ctx, func(tx *sql.Tx) error { return d.migrate(ctx, tx, component, steps) })
	if err != nil {
		return fmt.Errorf("migrate %s: %w", component, err)
	}
	return nil
}

func (d *DB) migrate(ctx context.Context, tx *sql.Tx, component string, steps []string) error {
	if d.dialect == PostgreSQL {
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
			return fmt.Errorf("take the migration lock: %w", err)
		}
	}
	if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS `+versionsTable+` (component TEXT PRIMARY KEY, version BIGINT NOT NULL)`); err != nil {
		return err
	}
	var version int
	err := tx.QueryRowContext(ctx, `SELECT version FROM `+versionsTable+` WHERE component = $1`, component).Scan(&version)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if version > len(steps) {
		return fmt.Errorf("the database has version %d, this program knows versions up to %d: it was last used by a newer program; run that one, or restore a backup", version, len(steps))
	}
	for i := version; i < len(steps); i++ {
		if _, err := tx.ExecContext(ctx, d.expand(steps[i])); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	if version == len(steps) {
		return nil
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO `+versionsTable+` (component, version) VALUES ($1, $2)
		ON CONFLICT (component) DO UPDATE SET version = excluded.version`, component, len(steps))
	return err
}

// expand replaces the one token that has no portable spelling.
func (d *DB) expand(text string) string {
	blob := "BLOB"
	if d.dialect == PostgreSQL {
		blob = "BYTEA"
	}
	return strings.ReplaceAll(text, "{{blob}}", blob)
}

// readMigrations returns the texts in order.
func readMigrations(files fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, err
	}
	var steps []string
	for _, e := range entries { // sorted by name
		m := migrationName.FindStringSubmatch(e.Name())
		if m == nil {
			return nil, fmt.Errorf("%s: want a name like 0001_what.sql", e.Name())
		}
		if n, _ := strconv.Atoi(m[1]); n != len(steps)+1 {
			return nil, fmt.Errorf("%s: want number %d next", e.Name(), len(steps)+1)
		}
		text, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return nil, err
		}
		steps = append(steps, string(text))
	}
	return steps, nil
}
