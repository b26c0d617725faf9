package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

// namePattern is what users, workspaces, agents and scripts may be called.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

const nameRule = "want 1 to 64 letters, digits, - or _"

// rowScanner is a row of either kind.
type rowScanner interface{ Scan(...any) error }

// querier runs a query inside or outside a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

const userColumns = `u.id, u.username, u.email, u.admin, u.created_at`

func userTargets(u *User, created *int64) []any {
	return []any{&u.ID, &u.Username, &u.Email, &u.Admin, created}
}

func scanUser(row rowScanner) (User, error) {
	var u User
	var created int64
	if err := row.Scan(userTargets(&u, &created)...); err != nil {
		return User{}, err
	}
	u.CreatedAt = sqldb.Time(created)
	return u, nil
}

// found turns the absence of a row into ErrNotFound with what was looked for.
func found(err error, format string, args ...any) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf(format+": %w", append(args, ErrNotFound)...)
	}
	return err
}

// EnsureFirstUser creates an administrator if there is no user at all, and
// returns the token, which cannot be read again. Otherwise created is false.
func (c *Catalog) EnsureFirstUser(ctx context.Context, username string) (u User, token string, created bool, err error) {
	err = c.db.Write(ctx, func(tx *sql.Tx) error {
		created = false
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM catalog_users`).Scan(&n); err != nil || n > 0 {
			return err
		}
		created = true
		u, token, err = insertUser(ctx, tx, username, true, c.now())
		return err
	})
	if errors.Is(err, ErrExists) { // another server was first
		return User{}, "", false, nil
	}
	if err != nil {
		return User{}, "", false, fmt.Errorf("create the first user: %w", err)
	}
	return u, token, created, nil
}

// CreateUser adds a user and returns the token, which cannot be read again.
func (c *Catalog) CreateUser(ctx context.Context, username string, admin bool) (u User, token string, err error) {
	return c.CreateUserWithEmail(ctx, username, "", admin)
}

// CreateUserWithEmail is CreateUser with an e-mail address, which may be empty.
func (c *Catalog) CreateUserWithEmail(ctx context.Context, username, email string, admin bool) (u User, token string, err error) {
	err = c.db.Write(ctx, func(tx *sql.Tx) error {
		if u, token, err = insertUser(ctx, tx, username, admin, c.now()); err == nil && email != "" {
			u.Email = email
			err = setEmail(ctx, tx, username, email)
		}
		return err
	})
	if err != nil {
		return User{}, "", fmt.Errorf("create user %q: %w", clean(username), err)
	}
	return u, token, nil
}

func insertUser(ctx context.Context, tx *sql.Tx, username string, admin bool, at time.Time) (User, string, error) {
	if !namePattern.MatchString(username) || username == "me" {
		return User{}, "", fmt.Errorf("%w username: %s, and not \"me\"", ErrInvalid, nameRule)
	}
	token := newUserToken()
	u := User{ID: uuid.New(), Username: username, Admin: admin, CreatedAt: at.UTC().Truncate(time.Microsecond)}
	_, err := tx.ExecContext(ctx, `INSERT INTO catalog_users (id, username, token_hash, admin, created_at) VALUES ($1, $2, $3, $4, $5)`,
		u.ID, u.Username, hashToken(token), sqldb.Bit(admin), sqldb.Micros(u.CreatedAt))
	if sqldb.IsUnique(err) {
		return User{}, "", ErrExists
	}
	return u, token, err
}

// UserByToken returns whose token this is.
func (c *Catalog) UserByToken(ctx context.Context, token string) (User, error) {
	hash := hashToken(token)
	var u User
	var created int64
	var stored string
	err := c.db.Reader().QueryRowContext(ctx, `SELECT `+userColumns+`, u.token_hash FROM catalog_users u WHERE u.token_hash = $1`, hash).
		Scan(append(userTargets(&u, &created), &stored)...)
	if err == nil && !sameHash(stored, hash) {
		err = sql.ErrNoRows
	}
	if err != nil {
		return User{}, fmt.Errorf("look up a user token: %w", found(err, "user"))
	}
	u.CreatedAt = sqldb.Time(created)
	return u, nil
}

// UserByName returns the user with that username.
func (c *Catalog) UserByName(ctx context.Context, username string) (User, error) {
	return userByName(ctx, c.db.Reader(), username)
}

func userByName(ctx context.Context, q querier, username string) (User, error) {
	u, err := scanUser(q.QueryRowContext(ctx, `SELECT `+userColumns+` FROM catalog_users u WHERE u.username = $1`, clean(username)))
	if err != nil {
		return User{}, found(err, "user %q", clean(username))
	}
	return u, nil
}

// Users returns all users by name.
func (c *Catalog) Users(ctx context.Context) ([]User, error) {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT `+userColumns+` FROM catalog_users u ORDER BY u.username`)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	users, err := collect(rows, scanUser)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return users, nil
}

// RotateUserToken replaces a user's token. The old one is invalid at once.
func (c *Catalog) RotateUserToken(ctx context.Context, username string) (string, error) {
	token := newUserToken()
	err := c.db.Write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE catalog_users SET token_hash = $2 WHERE username = $1`, clean(username), hashToken(token))
		return oneRow(res, err)
	})
	if err != nil {
		return "", fmt.Errorf("rotate the token of user %q: %w", clean(username), err)
	}
	return token, nil
}

// DeleteUser removes a user who owns no workspace and is not the last
// administrator.
func (c *Catalog) DeleteUser(ctx context.Context, username string) error {
	err := c.db.Write(ctx, func(tx *sql.Tx) error {
		u, err := userByName(ctx, tx, username)
		if err != nil {
			return err
		}
		var workspaces, otherAdmins int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM catalog_workspaces WHERE owner_id = $1 AND deleted_at = 0`, u.ID).Scan(&workspaces); err != nil {
			return err
		}
		if workspaces > 0 {
			return fmt.Errorf("%w: the user owns %d workspaces; delete them first", ErrInUse, workspaces)
		}
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM catalog_users WHERE admin = 1 AND id <> $1`, u.ID).Scan(&otherAdmins); err != nil {
			return err
		}
		if u.Admin && otherAdmins == 0 {
			return fmt.Errorf("%w: this is the last administrator", ErrInUse)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM catalog_workspaces WHERE owner_id = $1`, u.ID); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM catalog_users WHERE id = $1`, u.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete user %q: %w", clean(username), err)
	}
	return nil
}

// oneRow turns a statement that touched nothing into ErrNotFound.
func oneRow(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// collect scans and closes rows.
func collect[T any](rows *sql.Rows, scan func(rowScanner) (T, error)) ([]T, error) {
	defer rows.Close()
	var list []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}
