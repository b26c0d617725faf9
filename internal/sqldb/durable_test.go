package sqldb

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"testing/fstest"
)

// TestOpen_CommitsAreDurable: an acknowledged commit must survive a power failure,
// so each one syncs the log (synchronous is FULL, 2).
func TestOpen_CommitsAreDurable(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "x.db"))
	if err := db.Write(t.Context(), func(tx *sql.Tx) error {
		for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "foreign_keys": "1"} {
			var got string
			if err := tx.QueryRow(`PRAGMA ` + pragma).Scan(&got); err != nil {
				return err
			}
			if got != want {
				t.Errorf("%s is %s, want %s", pragma, got, want)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkCommit measures what a synced commit costs.
func BenchmarkCommit(b *testing.B) {
	for _, level := range []string{"FULL", "NORMAL"} {
		b.Run(level, func(b *testing.B) {
			db, err := Open(b.Context(), filepath.Join(b.TempDir(), "x.db"))
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			if err := db.Migrate(b.Context(), "x", fstest.MapFS{"0001_a.sql": {Data: []byte(`CREATE TABLE t (id BIGINT PRIMARY KEY, b BLOB)`)}}); err != nil {
				b.Fatal(err)
			}
			if _, err := db.writer.Exec(`PRAGMA synchronous = ` + level); err != nil {
				b.Fatal(err)
			}
			for i := 0; b.Loop(); i++ {
				if err := db.Write(b.Context(), func(tx *sql.Tx) error {
					_, err := tx.Exec(fmt.Sprintf(`INSERT INTO t VALUES (%d, zeroblob(500))`, i))
					return err
				}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
