//go:build unix

// Package pgtest runs a PostgreSQL server for the tests of one test binary. Only
// tests import it.
//
// The server is Debian's package, started on a free loopback port over a
// temporary directory when the first test asks for a database, as an
// unprivileged user if the tests run as root (PostgreSQL refuses root). It ends
// with the test binary, even if that is killed: a shell in between waits on a
// pipe.
package pgtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/worktally/worktally/internal/freeport"
	"github.com/worktally/worktally/internal/testtool"
)

// startTimeout bounds the start of the server.
const startTimeout = 60 * time.Second

// errNoPostgres: the programs are not installed.
var errNoPostgres = errors.New("PostgreSQL is not installed (Debian: apt-get install postgresql)")

// Cluster is one PostgreSQL server. The zero value is ready.
type Cluster struct {
	once  sync.Once
	err   error
	port  int
	user  string
	admin *sql.DB
	stdin io.Closer
	cmd   *exec.Cmd
	dir   string

	mu  sync.Mutex
	dbs int
}

// Main runs the tests of the binary, stops the server and ends the process; a
// goroutine that is left over fails a run that passed.
func (c *Cluster) Main(m *testing.M) {
	code := m.Run()
	c.Stop()
	os.Exit(testtool.Leaks(code))
}

// OnBoth runs a test on an empty database of each kind that a server can have.
func (c *Cluster) OnBoth(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "dir", "test.db")) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, c.DSN(t)) })
}

// DSN starts the server if this is the first call and returns the URL of a new,
// empty database. Without PostgreSQL the test is skipped, or fails in CI.
func (c *Cluster) DSN(t testing.TB) string {
	t.Helper()
	c.once.Do(func() { c.err = c.start() })
	if errors.Is(c.err, errNoPostgres) && os.Getenv("CI") == "" {
		t.Skip(c.err)
	}
	if c.err != nil {
		t.Fatal(c.err)
	}
	c.mu.Lock()
	c.dbs++
	name := fmt.Sprintf("test_%d", c.dbs)
	c.mu.Unlock()
	if _, err := c.admin.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create database: %v", err)
	}
	return c.dsn(name)
}

func (c *Cluster) dsn(database string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", c.user, c.port, database)
}

// Stop ends the server and removes its directory. It does nothing if the server
// was never started.
func (c *Cluster) Stop() {
	if c.admin != nil {
		c.admin.Close()
	}
	if c.cmd != nil {
		c.stdin.Close()
		_ = c.cmd.Wait() // it ends by a signal
	}
	if c.dir != "" {
		_ = os.RemoveAll(c.dir)
	}
}

func (c *Cluster) start() error {
	bin, err := findBin()
	if err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp("", "pgtest"); err != nil {
		return err
	}
	attr := &syscall.SysProcAttr{}
	c.user = "postgres"
	if os.Getuid() == 0 {
		if attr.Credential, err = unprivileged(c.dir); err != nil {
			return err
		}
	}
	data := filepath.Join(c.dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", c.user, "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
	initdb.SysProcAttr, initdb.Dir = attr, c.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	if c.port, err = freeport.Get(); err != nil {
		return err
	}
	const script = `log=$1; shift; "$@" >"$log" 2>&1 & p=$!; read x; kill -INT $p; wait $p`
	c.cmd = exec.Command("sh", "-c", script, "sh", filepath.Join(c.dir, "log"), filepath.Join(bin, "postgres"), "-D", data, "-p", strconv.Itoa(c.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off",
		"-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "max_connections=200")
	c.cmd.SysProcAttr, c.cmd.Dir = attr, c.dir
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	return c.waitReady()
}

func (c *Cluster) waitReady() error {
	admin, err := sql.Open("pgx", c.dsn("postgres"))
	if err != nil {
		return err
	}
	c.admin = admin
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = admin.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			text, _ := os.ReadFile(filepath.Join(c.dir, "log"))
			return fmt.Errorf("PostgreSQL does not answer: %w: %s", err, text)
		}
	}
}

// findBin returns the directory of initdb and postgres.
func findBin() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errNoPostgres
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// unprivileged gives dir to a user without rights and returns that user.
func unprivileged(dir string) (*syscall.Credential, error) {
	var errs []error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2, os.Chown(dir, int(uid), int(gid))); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("no unprivileged user: %w", errors.Join(errs...))
}
