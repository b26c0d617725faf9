package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
)

// emailPattern is loose: the address is a label, nobody writes to it.
var emailPattern = regexp.MustCompile(`^[^@\s\pC]{1,128}@[^@\s\pC]{1,125}$`)

// SetUserEmail changes a user's e-mail address; "" removes it.
func (c *Catalog) SetUserEmail(ctx context.Context, username, email string) error {
	err := c.db.Write(ctx, func(tx *sql.Tx) error { return setEmail(ctx, tx, username, email) })
	if err != nil {
		return fmt.Errorf("set the e-mail address of user %q: %w", clean(username), err)
	}
	return nil
}

func setEmail(ctx context.Context, tx *sql.Tx, username, email string) error {
	if err := checkEmail(email); err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx, `UPDATE catalog_users SET email = $2 WHERE username = $1`, clean(username), email)
	return oneRow(res, err)
}

func checkEmail(email string) error {
	if email != "" && (!emailPattern.MatchString(email) || clean(email) != email) {
		return fmt.Errorf("%w e-mail address: want name@domain", ErrInvalid)
	}
	return nil
}
