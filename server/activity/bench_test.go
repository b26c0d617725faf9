package activity

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/ledger"
)

// BenchmarkReadHistory is what happens every minute: the sessions of the last two
// hours, of 50,000 agents in each, whose owners are noted already.
func BenchmarkReadHistory(b *testing.B) {
	db, err := sqldb.Open(b.Context(), filepath.Join(b.TempDir(), "test.db"))
	must(b, err)
	defer db.Close()
	c, err := catalog.Open(b.Context(), db, catalog.Options{})
	must(b, err)
	u, _, err := c.CreateUser(b.Context(), "ann", true)
	must(b, err)
	l, err := ledger.Open(b.Context(), db, ledger.Options{})
	must(b, err)
	now := time.Now()
	must(b, db.Write(b.Context(), func(tx *sql.Tx) error {
		for i := range 100_000 {
			mask := append([]byte("\x03ssh"), 0xff, 0xff, 0, 0, 0, 0, 0, 0)
			if _, err := tx.Exec(`INSERT INTO ledger_history (hour, workspace_id, agent_name, owner_id, template_name, minutes) VALUES ($1, $2, 'main', $3, 'go', $4)`,
				now.Unix()/3600-int64(i%2), uuid.NewString(), u.ID, mask); err != nil {
				return err
			}
		}
		return nil
	}))
	a, err := Open(b.Context(), db, Options{History: l})
	must(b, err)
	if a.Month() != 1 {
		b.Fatalf("%d people", a.Month())
	}
	b.ReportAllocs()
	for b.Loop() {
		must(b, a.readHistory(b.Context(), now.Add(-time.Hour), now))
	}
}
