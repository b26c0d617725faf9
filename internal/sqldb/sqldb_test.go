package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/worktally/worktally/internal/pgtest"
)

// cluster is the PostgreSQL server of this test binary.
var cluster pgtest.Cluster

func TestMain(m *testing.M) { cluster.Main(m) }

func open(t *testing.T, dsn string) *DB {
	t.Helper()
	db, err := Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestDB_PlaceholdersAndTypes(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		if err := db.Migrate(t.Context(), "x", fstest.MapFS{"0001_a.sql": {Data: []byte(
			`CREATE TABLE things (id TEXT PRIMARY KEY, n BIGINT NOT NULL, b {{blob}} NOT NULL);
			 CREATE TABLE more (id TEXT PRIMARY KEY);`)}}); err != nil {
			t.Fatal(err)
		}
		if err := db.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := db.Write(t.Context(), func(tx *sql.Tx) error {
			if _, err := tx.Exec(`INSERT INTO things (b, id, n) VALUES ($3, $1, $2)`, "a", Bit(true), []byte{}); err != nil {
				return err
			}
			_, err := tx.Exec(`UPDATE things SET n = n + $2 WHERE id = $1 AND $2 > 0`, "a", int64(41))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		var b []byte
		if err := db.Reader().QueryRow(`SELECT n, b FROM things WHERE id = $1`, "a").Scan(&n, &b); err != nil || n != 42 || len(b) != 0 {
			t.Fatalf("n = %d, b = %v, err = %v", n, b, err)
		}
		err = db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.Exec(`INSERT INTO things (id, n, b) VALUES ($1, 1, $2)`, "a", []byte{1})
			return err
		})
		if !IsUnique(err) {
			t.Errorf("a second row with the same key: err = %v, want one that IsUnique knows", err)
		}
	})
}

func TestDB_WriteRollsBackOnError(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		boom := errors.New("boom")
		err := db.Write(t.Context(), func(tx *sql.Tx) error {
			if _, err := tx.Exec(`CREATE TABLE gone (id TEXT)`); err != nil {
				t.Fatal(err)
			}
			return boom
		})
		if !errors.Is(err, boom) {
			t.Fatalf("err = %v, want boom", err)
		}
		if _, err := db.Reader().Exec(`SELECT id FROM gone`); err == nil {
			t.Error("the table of a failed transaction exists")
		}
	})
}

func TestDB_ConcurrentWritesAllCount(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		first, second := open(t, dsn), open(t, dsn) // as two processes
		if err := first.Migrate(t.Context(), "x", fstest.MapFS{"0001_a.sql": {Data: []byte(
			`CREATE TABLE counter (n BIGINT NOT NULL); INSERT INTO counter (n) VALUES (0)`)}}); err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for i := range 8 {
			db := first
			if i%2 == 1 {
				db = second
			}
			group.Go(func() {
				for range 10 {
					if err := db.Write(t.Context(), func(tx *sql.Tx) error {
						_, err := tx.Exec(`UPDATE counter SET n = n + 1`)
						return err
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		var n int
		if err := first.Reader().QueryRow(`SELECT n FROM counter`).Scan(&n); err != nil || n != 80 {
			t.Errorf("n = %d, err = %v; want 80", n, err)
		}
	})
}

func TestDB_Migrate(t *testing.T) {
	one := fstest.MapFS{"0001_a.sql": {Data: []byte(`CREATE TABLE a (id TEXT)`)}}
	two := fstest.MapFS{"0001_a.sql": one["0001_a.sql"], "0002_b.sql": {Data: []byte(`CREATE TABLE b (id TEXT)`)}}
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		ctx := t.Context()
		for _, files := range []fstest.MapFS{one, one, two, two} { // twice: nothing to do
			if err := db.Migrate(ctx, "mine", files); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := db.Reader().Exec(`SELECT id FROM b`); err != nil {
			t.Error(err)
		}
		err := db.Migrate(ctx, "mine", one)
		if err == nil || !strings.Contains(err.Error(), "newer program") {
			t.Errorf("newer database: err = %v", err)
		}
		bad := fstest.MapFS{"0001_c.sql": {Data: []byte(`CREATE TABLE c (id TEXT)`)}, "0002_d.sql": {Data: []byte(`CREATE NONSENSE`)}}
		if err := db.Migrate(ctx, "other", bad); err == nil || !strings.Contains(err.Error(), "step 2") {
			t.Errorf("bad step: err = %v", err)
		}
		if _, err := db.Reader().Exec(`SELECT id FROM c`); err == nil {
			t.Error("half of a failed migration stayed")
		}
	})
}

func TestDB_MigrateFromSeveralProcesses(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		files := fstest.MapFS{"0001_a.sql": {Data: []byte(`CREATE TABLE a (id TEXT)`)}}
		dbs := []*DB{open(t, dsn), open(t, dsn), open(t, dsn)}
		var group sync.WaitGroup
		for _, db := range dbs {
			group.Go(func() {
				if err := db.Migrate(t.Context(), "mine", files); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	})
}

func TestReadMigrations_Names(t *testing.T) {
	for name, files := range map[string]fstest.MapFS{
		"a gap":       {"0002_a.sql": {}},
		"a bad name":  {"first.sql": {}},
		"a duplicate": {"0001_a.sql": {}, "0001_b.sql": {}},
	} {
		if _, err := readMigrations(files); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestOpen_ErrorsHideSecrets(t *testing.T) {
	for _, dsn := range []string{
		"postgres://u:hunter2@127.0.0.1:1/db",
		"postgres://u:hunter2@127.0.0.1:port/db",
		"postgres://u:hunter2/x#@h/db",
		"postgres://u:hunter2@127.0.0.1:1/db?sslmode=hunter2",
		"mysql://u:hunter2@h/db",
		"file:x.db?password=hunter2",
		"",
	} {
		db, err := Open(t.Context(), dsn)
		if err == nil {
			db.Close()
			t.Errorf("%q was opened", dsn)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error for %q shows the password: %v", dsn, err)
		}
	}
}

func TestOpen_SQLiteFileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new dir", "a?b#c%20.db")
	if _, err := Open(t.Context(), path); err == nil {
		t.Fatal("a path with a question mark was opened")
	}
	path = filepath.Join(t.TempDir(), "new dir", "a#c%20.db")
	open(t, "file:"+path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
}

// TestListen: what was committed is heard, what was not is not, and the end of the
// context ends it.
func TestListen(t *testing.T) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		ctx, cancel := context.WithCancel(t.Context())
		heard, ended := make(chan string, 10), make(chan error, 1)
		go func() { ended <- db.Listen(ctx, "some channel", func(message string) { heard <- message }) }()
		if db.Dialect() == PostgreSQL {
			if m := <-heard; m != "" { // it listens
				t.Errorf("at first %q was heard", m)
			}
		}
		failed := errors.New("no")
		if err := db.Write(ctx, func(tx *sql.Tx) error { return errors.Join(db.Notify(ctx, tx, "some channel", "not this"), failed) }); !errors.Is(err, failed) {
			t.Fatal(err)
		}
		if err := db.Write(ctx, func(tx *sql.Tx) error { return db.Notify(ctx, tx, "some channel", "a 'message'") }); err != nil {
			t.Fatal(err)
		}
		if db.Dialect() == PostgreSQL {
			if m := <-heard; m != "a 'message'" {
				t.Errorf("heard %q", m)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := len(heard); n != 0 {
			t.Errorf("%d more were heard", n)
		}
		if err := db.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
