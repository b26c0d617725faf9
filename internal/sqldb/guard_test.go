package sqldb

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

const (
	keepRows = 300
	healRows = 5000
)

// newGuarded opens a database with tables that must not be lost and tables that heal.
func newGuarded(t *testing.T, g Guard, path string) *DB {
	t.Helper()
	db, err := g.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for component, rows := range map[string]int{"keep": keepRows, "heal": healRows} {
		files := fstest.MapFS{"0001_a.sql": {Data: []byte(fmt.Sprintf(
			`CREATE TABLE %[1]s_rows (id TEXT PRIMARY KEY, v BIGINT NOT NULL, b BLOB NOT NULL);
			 CREATE INDEX %[1]s_by_v ON %[1]s_rows (v);`, component))}}
		if err := db.Migrate(t.Context(), component, files); err != nil {
			t.Fatal(err)
		}
		if err := db.Write(t.Context(), func(tx *sql.Tx) error {
			for i := range rows {
				if _, err := tx.Exec(`INSERT INTO `+component+`_rows (id, v, b) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
					fmt.Sprint(component, i), i, make([]byte, 200)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

func count(t *testing.T, db *DB, query string) (n int) {
	t.Helper()
	if err := db.Reader().QueryRow(query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// root returns the offset of a page of a table and the size of pages.
func root(t *testing.T, db *DB, name string) (offset, size int64) {
	t.Helper()
	n := int64(count(t, db, `SELECT rootpage FROM sqlite_master WHERE name = '`+name+`'`))
	size = int64(count(t, db, `PRAGMA page_size`))
	return (n - 1) * size, size
}

// overwrite puts garbage into a file.
func overwrite(t *testing.T, path string, offset, size int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, int(size)), offset); err != nil {
		t.Fatal(err)
	}
}

// files returns the names in a directory, without their directory.
func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// at is when the test's servers start.
func at() time.Time { return time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC) }

// TestGuard_DamageThatHeals: the damaged file is kept, what can be read is in the
// new one, and what heals starts empty and can be migrated again.
func TestGuard_DamageThatHeals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	var log bytes.Buffer
	g := Guard{Heals: "heal", now: at, Log: slog.New(slog.NewTextHandler(&log, nil))}
	db := newGuarded(t, g, path)
	offset, size := root(t, db, "heal_rows")
	if db.Aside() != "" {
		t.Errorf("a sound database was set aside as %s", db.Aside())
	}
	closeDB(t, db)
	overwrite(t, path, offset, size)
	damaged, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	db, err = g.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	aside := path + ".corrupt-20260504T030201Z"
	if db.Aside() != aside || !strings.Contains(log.String(), aside) {
		t.Errorf("set aside as %q, want %q, and that in the log:\n%s", db.Aside(), aside, log.String())
	}
	if kept, err := os.ReadFile(aside); err != nil || !bytes.Equal(kept, damaged) {
		t.Errorf("the damaged file is not what it was (error %v)", err)
	}
	if n := count(t, db, `SELECT COUNT(*) FROM keep_rows`); n != keepRows {
		t.Errorf("%d rows were kept, want %d", n, keepRows)
	}
	if n := count(t, db, `SELECT COUNT(*) FROM sqlite_master WHERE name = 'keep_by_v'`); n != 1 {
		t.Error("an index is missing")
	}
	closeDB(t, db)
	db = newGuarded(t, g, path)
	defer closeDB(t, db)
	if n := count(t, db, `SELECT COUNT(*) FROM heal_rows`); n != healRows || db.Aside() != "" {
		t.Errorf("%d rows after healing, want %d; set aside %q", n, healRows, db.Aside())
	}
}

func closeDB(t *testing.T, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestGuard_DamageThatLosesPeople: that is refused with the way out, and the flag
// is that way.
func TestGuard_DamageThatLosesPeople(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(*testing.T, string, int64, int64)
	}{
		{"a table", overwrite},
		{"the header", func(t *testing.T, path string, _, size int64) { overwrite(t, path, 0, size) }},
		{"cut off", func(t *testing.T, path string, offset, _ int64) {
			if err := os.Truncate(path, offset); err != nil {
				t.Fatal(err)
			}
		}},
		{"cut off to nothing", func(t *testing.T, path string, _, _ int64) {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		}},
		{"another file", func(t *testing.T, path string, _, _ int64) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("text\n"), 5000), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x.db")
			g := Guard{Heals: "heal", now: at}
			db := newGuarded(t, g, path)
			offset, size := root(t, db, "keep_rows")
			closeDB(t, db)
			tc.damage(t, path, offset, size)
			for range 2 { // refusing changes nothing
				_, err := g.Open(t.Context(), path)
				if err == nil || !strings.Contains(err.Error(), SetAsideFlag) || !strings.Contains(err.Error(), path+" is damaged") {
					t.Fatalf("err = %v; want one that says that it is damaged and names the flag", err)
				}
				if strings.Contains(files(t, dir), "corrupt-") {
					t.Fatalf("something was set aside without leave: %s", files(t, dir))
				}
			}
			g.SetAside = true
			db, err := g.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer closeDB(t, db)
			if n := count(t, db, `SELECT COUNT(*) FROM sqlite_master`); n != 0 {
				t.Errorf("the new database has %d tables", n)
			}
			if _, err := os.Stat(db.Aside()); err != nil {
				t.Errorf("the damaged file is gone: %v", err)
			}
		})
	}
}

// TestGuard_NewFileIsNeverEmpty: from the first moment, so that one that is empty has
// lost something.
func TestGuard_NewFileIsNeverEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := Guard{}.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeDB(t, db)
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("%v, %v", info.Size(), err)
	}
}

// TestGuard_CrashWhileReplacing stops after every step: the next start ends with
// the whole database in its place, without the journals of the damaged one.
func TestGuard_CrashWhileReplacing(t *testing.T) {
	for step := range 4 {
		t.Run(fmt.Sprint("step ", step), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x.db")
			g := Guard{Heals: "heal", now: at}
			db := newGuarded(t, g, path)
			offset, size := root(t, db, "heal_rows")
			closeDB(t, db)
			overwrite(t, path, offset, size)
			r := replacement{path: path, log: slog.New(slog.DiscardHandler), stamp: "before"}
			g.Log = r.log
			do := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			switch step {
			case 0: // while it is built
				do(r.begin())
				do(os.WriteFile(r.building()+"-wal", []byte("half"), 0o600))
			case 1: // built
				do(g.rescue(t.Context(), r, "test"))
				do(os.WriteFile(path+"-wal", []byte("of the damaged one"), 0o600))
			case 2: // a journal is aside
				do(g.rescue(t.Context(), r, "test"))
				do(os.WriteFile(path+".corrupt-20260504T030201Z-wal", []byte("of the damaged one"), 0o600))
			case 3: // all is aside, and nothing in its place
				do(g.rescue(t.Context(), r, "test"))
				do(os.Rename(path, path+".corrupt-before"))
			}
			db, err := g.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer closeDB(t, db)
			if n := count(t, db, `SELECT COUNT(*) FROM keep_rows`); n != keepRows {
				t.Errorf("%d rows were kept, want %d", n, keepRows)
			}
			if text, err := os.ReadFile(db.Aside() + "-wal"); (step == 1 || step == 2) && (err != nil || string(text) != "of the damaged one") {
				t.Errorf("the journal set aside is %q, error %v", text, err)
			}
			if db.Aside() == "" || !strings.Contains(files(t, dir), "x.db.corrupt-") || strings.Contains(files(t, dir), ".whole") {
				t.Errorf("set aside %q, files %s", db.Aside(), files(t, dir))
			}
		})
	}
}

// TestGuard_OneServerAtATime, also after the first one was killed.
func TestGuard_OneServerAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if os.Getenv("SQLDB_TEST_HOLD") != "" { // the other process
		holdDatabase(os.Getenv("SQLDB_TEST_HOLD"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	other := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestGuard_OneServerAtATime$")
	other.Env = append(os.Environ(), "SQLDB_TEST_HOLD="+path)
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscanln(out); err != nil { // it has the database
		t.Fatal(err)
	}
	_, err = Guard{}.Open(t.Context(), path)
	if want := fmt.Sprintf("in use by another server (process %d)", other.Process.Pid); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("err = %v, want %q", err, want)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // it was killed
	db, err := Guard{}.Open(t.Context(), path)
	if err != nil {
		t.Fatalf("after the other was killed: %v", err)
	}
	if _, err := (Guard{}).Open(t.Context(), "file:"+path); err == nil {
		t.Error("one process opened it twice")
	}
	closeDB(t, db)
	db, err = Guard{}.Open(t.Context(), path)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	closeDB(t, db)
}

// TestGuard_OneServerUnderAnyName: a link to the file is the same file, also when it
// is damaged.
func TestGuard_OneServerUnderAnyName(t *testing.T) {
	dir, linked := t.TempDir(), t.TempDir()
	path, link := filepath.Join(dir, "x.db"), filepath.Join(linked, "y.db")
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err)
	}
	g := Guard{Heals: "heal", now: at}
	db := newGuarded(t, g, path)
	offset, size := root(t, db, "heal_rows")
	if other, err := g.Open(t.Context(), link); err == nil {
		closeDB(t, other)
		t.Error("a second server opened it under another name")
	}
	closeDB(t, db)
	overwrite(t, path, offset, size)
	db, err := g.Open(t.Context(), link)
	if err != nil {
		t.Fatal(err)
	}
	defer closeDB(t, db)
	if filepath.Dir(db.Aside()) != dir || files(t, linked) != "y.db" {
		t.Errorf("set aside as %s; beside the link: %s", db.Aside(), files(t, linked))
	}
	nowhere := filepath.Join(linked, "z.db")
	if err := os.Symlink(filepath.Join(dir, "z.db"), nowhere); err != nil {
		t.Fatal(err)
	}
	if other, err := g.Open(t.Context(), nowhere); err == nil {
		closeDB(t, other)
		t.Error("a file was made at the end of a link, with its journals beside the link")
	}
}

// holdDatabase opens it and waits to be killed.
func holdDatabase(path string) {
	if _, err := (Guard{}).Open(context.Background(), path); err != nil {
		panic(err)
	}
	fmt.Println()
	<-make(chan struct{})
}
