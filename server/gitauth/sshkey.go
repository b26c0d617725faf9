package gitauth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"database/sql"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/internal/sqldb"
)

// SSHKey is a person's key for git over SSH.
type SSHKey struct {
	// Public is a line as in authorized_keys; it is no secret.
	Public string
	// Private is in OpenSSH's form.
	Private   Secret
	CreatedAt time.Time
}

// ErrNoUser: the person is gone.
var ErrNoUser = errors.New("there is no such person")

func keyPlace(user uuid.UUID) string { return "ssh key " + user.String() }

// SSHKey returns a person's key, which is made the first time.
func (s *Service) SSHKey(ctx context.Context, user uuid.UUID) (SSHKey, error) {
	key, err := s.loadKey(ctx, user)
	if !errors.Is(err, sql.ErrNoRows) {
		return key, err
	}
	// Whoever is first wins, and everybody gets that one.
	if err := s.makeKey(ctx, user, `DO NOTHING`); err != nil {
		return SSHKey{}, err
	}
	return s.storedKey(ctx, user)
}

// RenewSSHKey replaces a person's key. The old one is gone at once.
func (s *Service) RenewSSHKey(ctx context.Context, user uuid.UUID) (SSHKey, error) {
	err := s.makeKey(ctx, user, `DO UPDATE SET public = excluded.public, private = excluded.private, created_at = excluded.created_at`)
	if err != nil {
		return SSHKey{}, err
	}
	return s.storedKey(ctx, user)
}

// storedKey is loadKey right after a key was made: without one there is no person.
func (s *Service) storedKey(ctx context.Context, user uuid.UUID) (SSHKey, error) {
	key, err := s.loadKey(ctx, user)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("make an SSH key: %w", ErrNoUser)
	}
	return key, err
}

func (s *Service) loadKey(ctx context.Context, user uuid.UUID) (SSHKey, error) {
	var k SSHKey
	var created int64
	var sealed []byte
	err := s.db.Reader().QueryRowContext(ctx, `SELECT public, private, created_at FROM gitauth_ssh_keys WHERE user_id = $1`, user).
		Scan(&k.Public, &sealed, &created)
	if err != nil {
		return SSHKey{}, fmt.Errorf("read an SSH key: %w", err)
	}
	private, err := s.box.open(sealed, keyPlace(user))
	if err != nil {
		return SSHKey{}, fmt.Errorf("read an SSH key: %w", err)
	}
	k.Private, k.CreatedAt = Secret(private), sqldb.Time(created)
	return k, nil
}

func (s *Service) makeKey(ctx context.Context, user uuid.UUID, onConflict string) error {
	public, private, err := newSSHKey()
	if err != nil {
		return fmt.Errorf("make an SSH key: %w", err)
	}
	sealed := s.box.seal(private, keyPlace(user))
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO gitauth_ssh_keys (user_id, public, private, created_at)
			SELECT u.id, $2, $3, $4 FROM catalog_users u WHERE u.id = $1 ON CONFLICT (user_id) `+onConflict,
			user, public, sealed, sqldb.Micros(time.Now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("store an SSH key: %w", err)
	}
	return nil
}

func newSSHKey() (public string, private []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", nil, err
	}
	line, err := ssh.NewPublicKey(pub)
	if err != nil {
		return "", nil, err
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		return "", nil, err
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line))), pem.EncodeToMemory(block), nil
}
