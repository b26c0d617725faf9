package gitauth

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

// Token is what git needs for a provider. It is a secret.
type Token struct {
	Access  Secret
	Type    string
	Expires time.Time // zero means never
}

// sealedToken is what is sealed of a token.
type sealedToken struct {
	Access  string `json:"access"`
	Refresh string `json:"refresh,omitempty"`
	Type    string `json:"type,omitempty"`
}

// link is a person's account at a provider, as stored.
type link struct {
	user        uuid.UUID
	provider    string
	revision    int64
	leasedUntil time.Time
	obtained    time.Time
	expires     time.Time // zero means never
	token       sealedToken
}

func (l *link) asToken() Token {
	return Token{Access: Secret(l.token.Access), Type: l.token.Type, Expires: l.expires}
}

func linkPlace(user uuid.UUID, provider string) string {
	return "link " + user.String() + " " + provider
}

// Linked tells when a person linked an account at each provider.
func (s *Service) Linked(ctx context.Context, user uuid.UUID) (map[string]time.Time, error) {
	rows, err := s.db.Reader().QueryContext(ctx, `SELECT provider, linked_at FROM gitauth_links WHERE user_id = $1`, user)
	if err != nil {
		return nil, fmt.Errorf("read linked accounts: %w", err)
	}
	defer rows.Close()
	linked := make(map[string]time.Time)
	for rows.Next() {
		var provider string
		var at int64
		if err := rows.Scan(&provider, &at); err != nil {
			return nil, fmt.Errorf("read linked accounts: %w", err)
		}
		linked[provider] = sqldb.Time(at)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read linked accounts: %w", err)
	}
	return linked, nil
}

// load returns a link. Its error wraps ErrNotLinked if there is none.
func (s *Service) load(ctx context.Context, user uuid.UUID, provider string) (*link, error) {
	l := &link{user: user, provider: provider}
	var leased, obtained, expires int64
	var sealed []byte
	err := s.db.Reader().QueryRowContext(ctx, `SELECT revision, leased_until, obtained_at, expires_at, token FROM gitauth_links
		WHERE user_id = $1 AND provider = $2`, user, provider).Scan(&l.revision, &leased, &obtained, &expires, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotLinked
	}
	if err != nil {
		return nil, fmt.Errorf("read a linked account: %w", err)
	}
	l.leasedUntil, l.obtained, l.expires = sqldb.Time(leased), sqldb.Time(obtained), sqldb.Time(expires)
	text, err := s.box.open(sealed, linkPlace(user, provider))
	if err == nil {
		err = json.Unmarshal(text, &l.token)
	}
	if err != nil {
		return nil, fmt.Errorf("read a linked account: %w", err)
	}
	return l, nil
}

// sealToken returns what is stored of a token.
func (s *Service) sealToken(l *link) ([]byte, error) {
	text, err := json.Marshal(l.token)
	if err != nil {
		return nil, fmt.Errorf("seal a token: %w", err)
	}
	return s.box.seal(text, linkPlace(l.user, l.provider)), nil
}

// save stores a new link in place of an older one.
func (s *Service) save(ctx context.Context, l *link) error {
	sealed, err := s.sealToken(l)
	if err != nil {
		return err
	}
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `INSERT INTO gitauth_links (user_id, provider, revision, linked_at, obtained_at, expires_at, token)
			SELECT u.id, $2, 1, $3, $3, $4, $5 FROM catalog_users u WHERE u.id = $1
			ON CONFLICT (user_id, provider) DO UPDATE SET revision = gitauth_links.revision + 1, leased_until = 0,
			linked_at = excluded.linked_at, obtained_at = excluded.obtained_at, expires_at = excluded.expires_at, token = excluded.token`,
			l.user, l.provider, sqldb.Micros(l.obtained), sqldb.Micros(l.expires), sealed)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, errors.New("the person is gone"))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store a linked account: %w", err)
	}
	return nil
}

// replace stores a refreshed token, unless the link has changed meanwhile, and
// gives the lease back; false means that it has.
func (s *Service) replace(ctx context.Context, l *link) (stored bool, err error) {
	sealed, err := s.sealToken(l)
	if err != nil {
		return false, err
	}
	return s.update(ctx, l, `revision = revision + 1, leased_until = 0, obtained_at = $4, expires_at = $5, token = $6`,
		sqldb.Micros(l.obtained), sqldb.Micros(l.expires), sealed)
}

// lease takes the right to refresh until a time; false means that somebody else
// has it, or has done it.
func (s *Service) lease(ctx context.Context, l *link, now time.Time) (mine bool, err error) {
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE gitauth_links SET leased_until = $4 WHERE user_id = $1 AND provider = $2 AND revision = $3 AND leased_until < $5`,
			l.user, l.provider, l.revision, sqldb.Micros(now.Add(leaseTime)), sqldb.Micros(now))
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		mine = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("lease a linked account: %w", err)
	}
	return mine, nil
}

// release gives the lease back without a new token.
func (s *Service) release(ctx context.Context, l *link) error {
	_, err := s.update(ctx, l, `leased_until = 0`)
	return err
}

// update changes a link that is still the one that was read; false means that it
// is not.
func (s *Service) update(ctx context.Context, l *link, set string, args ...any) (changed bool, err error) {
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE gitauth_links SET `+set+` WHERE user_id = $1 AND provider = $2 AND revision = $3`,
			append([]any{l.user, l.provider, l.revision}, args...)...)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		changed = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("change a linked account: %w", err)
	}
	return changed, nil
}

// drop forgets a link whose token is no good any more, unless it has changed
// meanwhile.
func (s *Service) drop(ctx context.Context, l *link) error {
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM gitauth_links WHERE user_id = $1 AND provider = $2 AND revision = $3`, l.user, l.provider, l.revision)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget a linked account: %w", err)
	}
	return nil
}

// Unlink forgets a person's account. Without one it does nothing.
func (s *Service) Unlink(ctx context.Context, user uuid.UUID, p *Provider) error {
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM gitauth_links WHERE user_id = $1 AND provider = $2`, user, p.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("unlink an account: %w", err)
	}
	return nil
}
