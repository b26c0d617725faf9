package catalog

import (
	"context"
	"embed"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/worktally/worktally/internal/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options configure a Catalog. The zero value works.
type Options struct {
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Replica is the name of this server among those that share the database. The
	// zero value is the name of the only one.
	Replica string
	// Now is the wall clock, for what is stored; nil means time.Now.
	Now func() time.Time
}

// Catalog keeps users and workspaces in a database. Its methods may be called
// concurrently.
type Catalog struct {
	db      *sqldb.DB
	log     *slog.Logger
	replica string
	now     func() time.Time
	states  *sqldb.Group // writes states of agents
}

// Open migrates the tables and returns a catalog on db, which stays the caller's.
func Open(ctx context.Context, db *sqldb.DB, o Options) (*Catalog, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, "catalog", files); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Catalog{db: db, log: o.Log, replica: o.Replica, now: o.Now, states: sqldb.NewGroup(db)}
	return c, c.migrateLogSources(ctx)
}

// clean makes a foreign string fit for both databases: PostgreSQL refuses
// invalid UTF-8 and NUL.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
}

// cut shortens a clean string to at most n bytes without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
