package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
)

// SetAsideFlag is the flag of the server that sets Guard.SetAside, for messages.
const SetAsideFlag = "--set-aside-corrupt-database"

// rescue makes the database that takes the place of a damaged one, as far as
// r.ready(); r.finish does the rest.
func (g Guard) rescue(ctx context.Context, r replacement, damage string) error {
	if err := r.begin(); err != nil {
		return err
	}
	lost, err := copyWhole(ctx, r.path, r.building(), g.Heals)
	switch {
	case err == nil && len(lost) == 0:
		g.Log.Warn("every table of the damaged database could be read whole", "path", r.path)
	case err == nil:
		g.Log.Error("a part of the damaged database starts empty, and heals as agents report; history and what came from agents that are gone is missing",
			"path", r.path, "part", g.Heals, "damaged", lost)
	case ctx.Err() != nil || FaultOf(err) != NoFault:
		return fmt.Errorf("rescue the damaged database %s: %w", r.path, err)
	case g.SetAside:
		g.Log.Error("the damaged database is replaced by an empty one, without workspaces, users and tokens", "path", r.path, "err", err)
		if err := r.begin(); err != nil {
			return err
		}
		d, err := openSQLite(ctx, r.building())
		if err != nil {
			return err
		}
		if err := d.Close(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("the database %s is damaged (%s), and workspaces, users and tokens cannot be read whole from it (%w): "+
			"restore a backup, or start once with %s, which keeps the damaged file under another name and starts with an empty database", r.path, damage, err, SetAsideFlag)
	}
	return r.ready()
}

// table is one of a database, or an index of one.
type table struct{ kind, name, of, sql string }

// copyWhole copies every table of the database at from to a new one at to. If one
// of the component heals cannot be read whole, all of that component's are left
// out and lost tells why; for any other that is an error.
func copyWhole(ctx context.Context, from, to, heals string) (lost []string, err error) {
	db, err := sql.Open("sqlite", sqliteName(to, "_pragma=foreign_keys(0)"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1) // what is attached belongs to the connection
	if _, err := db.ExecContext(ctx, `ATTACH DATABASE $1 AS damaged`, from); err != nil {
		return nil, err
	}
	all, err := tables(ctx, db)
	if err != nil {
		return nil, err
	}
	var rest, healing []table
	for _, t := range all {
		if heals != "" && strings.HasPrefix(t.of, heals+"_") {
			healing = append(healing, t)
		} else {
			rest = append(rest, t)
		}
	}
	if !hasTable(rest, versionsTable) {
		return nil, fmt.Errorf("the table %s is missing", versionsTable)
	}
	if err := copyTables(ctx, db, rest); err != nil {
		return nil, err
	}
	if err := copyTables(ctx, db, healing); err != nil {
		if ctx.Err() != nil || FaultOf(err) != NoFault {
			return nil, err
		}
		lost = append(lost, err.Error())
		_, err = db.ExecContext(ctx, `DELETE FROM main.`+versionsTable+` WHERE component = $1`, heals)
		return lost, err
	}
	return nil, nil
}

func hasTable(list []table, name string) bool {
	for _, t := range list {
		if t.name == name {
			return true
		}
	}
	return false
}

// tables returns the tables of the damaged database, and then their indexes.
func tables(ctx context.Context, db *sql.DB) (list []table, err error) {
	rows, err := db.QueryContext(ctx, `SELECT type, name, tbl_name, sql FROM damaged.sqlite_master
		WHERE sql IS NOT NULL AND type IN ('table', 'index') AND name NOT LIKE 'sqlite_%' ORDER BY type DESC, rowid`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var t table
		if err := rows.Scan(&t.kind, &t.name, &t.of, &t.sql); err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, rows.Err()
}

// copyTables copies all of the tables or none.
func copyTables(ctx context.Context, db *sql.DB, list []table) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after the commit this does nothing
	for _, t := range list {
		if err := copyTable(ctx, tx, t); err != nil {
			return fmt.Errorf("%s %s: %w", t.kind, t.name, err)
		}
	}
	return tx.Commit()
}

func copyTable(ctx context.Context, tx *sql.Tx, t table) error {
	if t.kind == "table" {
		// The check also finds rows that an index has and the table has not.
		complaint, err := check(ctx, tx, `PRAGMA damaged.quick_check('`+t.name+`')`)
		if err == nil && complaint != "" {
			err = errors.New(complaint)
		}
		if err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, t.sql); err != nil {
		return err
	}
	if t.kind != "table" {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO main."`+t.name+`" SELECT * FROM damaged."`+t.name+`"`)
	return err
}

// replacement is the change from a damaged file to another one. Each step can be
// followed by a crash: what is built has one name until it is whole and another
// one from then on, and finish goes on from wherever it was.
type replacement struct {
	path  string
	stamp string // in the name of what is set aside
	log   *slog.Logger
}

func (r replacement) building() string { return r.path + ".building" }
func (r replacement) whole() string    { return r.path + ".whole" }

// suffixes are those of the files that make up one database.
func suffixes() []string { return []string{"-wal", "-shm", "-journal", ""} }

// begin removes what an interrupted start has left.
func (r replacement) begin() error {
	for _, s := range suffixes() {
		if err := os.Remove(r.building() + s); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("replace a damaged database: %w", err)
		}
	}
	f, err := os.OpenFile(r.building(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("replace a damaged database: %w", err)
	}
	return f.Close()
}

// ready declares what was built whole. It was closed, so it has no journal.
func (r replacement) ready() error {
	if err := os.Rename(r.building(), r.whole()); err != nil {
		return fmt.Errorf("replace a damaged database: %w", err)
	}
	return syncDir(r.path)
}

// finish sets the damaged files aside and puts the whole one in their place, if
// there is one. It returns the new name of the damaged database.
func (r replacement) finish() (aside string, err error) {
	if _, err := os.Stat(r.whole()); os.IsNotExist(err) {
		return "", nil
	}
	aside = r.path + ".corrupt-" + r.stamp
	for _, s := range suffixes() { // the journals go first: none may meet the new file
		if err := os.Rename(r.path+s, aside+s); err != nil && !os.IsNotExist(err) {
			return "", fmt.Errorf("set a damaged database aside: %w", err)
		}
	}
	if err := os.Rename(r.whole(), r.path); err != nil {
		return "", fmt.Errorf("replace a damaged database: %w", err)
	}
	if err := syncDir(r.path); err != nil {
		return "", err
	}
	r.log.Error("the damaged database was set aside, and another one is in its place", "path", r.path, "set_aside", aside)
	return aside, nil
}
