package gitauth

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/worktally/worktally/internal/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// What callers branch on. The errors of the methods wrap them.
var (
	// ErrNotLinked: the person has no account at the provider, or the provider does
	// not know it any more.
	ErrNotLinked = errors.New("no account is linked")
	// ErrProvider: the provider did not answer, or not as it should.
	ErrProvider = errors.New("the git provider could not be used")
	// ErrState: a login does not fit this browser, or took too long.
	ErrState = errors.New("the login does not belong to this browser, or took too long")
	// ErrRefused: the person, or the provider, said no.
	ErrRefused = errors.New("the login was refused")
)

// Options configure a Service.
type Options struct {
	Providers []*Provider
	// Key seals secrets; it has KeySize bytes, and all replicas have the same one.
	// Required.
	Key []byte
	// AccessURL is how people reach the server.
	AccessURL string
	// Transport is used for calls to providers. Nil means one of its own.
	Transport http.RoundTripper
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics. Nil keeps them private.
	Registerer prometheus.Registerer
	// HideDeprecated leaves out the family of metrics that has a replacement.
	HideDeprecated bool
}

// Service keeps accounts and keys. It is safe for concurrent use.
type Service struct {
	o     Options
	db    *sqldb.DB
	box   box
	calls *calls
	log   *slog.Logger
	// validated are tokens that were good a moment ago.
	validated validated
	idle      func() // closes connections that nobody uses
}

// Open migrates the tables, which need those of the catalog, and checks that the
// key is the one with which the database was used before. The database stays the
// caller's.
func Open(ctx context.Context, db *sqldb.DB, o Options) (*Service, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{o: o, db: db, log: o.Log, idle: func() {}}
	if s.o.Transport == nil {
		own := newTransport()
		s.o.Transport, s.idle = own, own.CloseIdleConnections
	}
	var err error
	if s.box, err = newBox(o.Key); err != nil {
		return nil, err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, "gitauth", files); err != nil {
		return nil, err
	}
	if err := s.checkKey(ctx); err != nil {
		return nil, err
	}
	s.calls = newCalls(o.Registerer, s.o.Transport, o.Providers)
	s.calls.limits.hideDeprecated = o.HideDeprecated
	return s, nil
}

// newTransport bounds what is not bound by the time of a whole call.
func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxResponseHeaderBytes = 64 << 10
	t.MaxConnsPerHost = 32
	t.IdleConnTimeout = 30 * time.Second
	return t
}

// Close closes idle connections. Nothing may be called afterwards.
func (s *Service) Close() { s.idle() }

// keyCheck is what is sealed to know the key again.
const keyCheck, keyCheckPlace = "worktally", "key check"

// checkKey refuses another key than the one that was used before: nothing that is
// stored could be opened.
func (s *Service) checkKey(ctx context.Context) error {
	sealed := s.box.seal([]byte(keyCheck), keyCheckPlace)
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO gitauth_key (id, sealed) VALUES (1, $1) ON CONFLICT (id) DO NOTHING`, sealed)
		return err
	})
	var stored []byte
	if err == nil {
		err = s.db.Reader().QueryRowContext(ctx, `SELECT sealed FROM gitauth_key WHERE id = 1`).Scan(&stored)
	}
	if err != nil {
		return fmt.Errorf("check the key for secrets: %w", err)
	}
	if text, err := s.box.open(stored, keyCheckPlace); err != nil || !bytes.Equal(text, []byte(keyCheck)) {
		return errors.New("the key for secrets is not the one that this database was used with; all replicas need the same file (--secrets-key-file). " +
			"If it is lost, empty the tables gitauth_key, gitauth_links and gitauth_ssh_keys; people then link their accounts again")
	}
	return nil
}

// Providers returns all providers, in the order of the configuration.
func (s *Service) Providers() []*Provider { return s.o.Providers }

// ByID returns the provider with that id, nil if there is none.
func (s *Service) ByID(id string) *Provider {
	for _, p := range s.o.Providers {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// Match returns the first provider for a URL or a host, nil if there is none.
func (s *Service) Match(asked string) *Provider {
	for _, p := range s.o.Providers {
		if p.matches(asked) {
			return p
		}
	}
	return nil
}
