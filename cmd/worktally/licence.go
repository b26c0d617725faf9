package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/licence"
)

// licenceCmd is "worktally licence".
type licenceCmd struct {
	Keygen licenceKeygen `cmd:"" help:"Make a pair of keys for licences."`
	Create licenceCreate `cmd:"" help:"Sign a licence."`
	Check  licenceCheck  `cmd:"" help:"Verify a licence and print what it says; exit 1 if it is forged or has expired."`
}

// licenceKeygen is "worktally licence keygen".
type licenceKeygen struct {
	Key       string `required:"" placeholder:"FILE" help:"File for the private key, which signs licences and is a secret."`
	PublicKey string `required:"" name:"public-key" placeholder:"FILE" help:"File for the public key, which servers need."`
}

// Run never overwrites a key.
func (c licenceKeygen) Run(p *program) error {
	private, public, err := licence.NewKeys()
	if err != nil {
		return err
	}
	if err := writeNew(c.Key, private, 0o600); err != nil {
		return err
	}
	if err := writeNew(c.PublicKey, public, 0o644); err != nil {
		return errors.Join(err, os.Remove(c.Key))
	}
	fmt.Fprintf(p.stderr, "The keys are in %s (keep it secret) and %s.\n", c.Key, c.PublicKey)
	return nil
}

func writeNew(path string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// licenceCreate is "worktally licence create".
type licenceCreate struct {
	Key     string `required:"" placeholder:"FILE" help:"File with the private key."`
	Seats   int    `default:"0" help:"How many active people it is for; 0 means no limit."`
	Enforce bool   `help:"Let servers refuse new users when all seats are taken."`
	Expires string `required:"" placeholder:"DATE" help:"Last day, as YYYY-MM-DD; it ends when that day ends in UTC."`
	Holder  string `required:"" help:"Who it is for."`
	Output  string `required:"" short:"o" placeholder:"FILE" help:"File for the licence, which must not exist."`
}

// Run writes a licence that is checked before.
func (c licenceCreate) Run(p *program) error {
	day, err := time.Parse(time.DateOnly, c.Expires)
	if err != nil {
		return usagef("--expires: %q is not a date like 2031-12-31", c.Expires)
	}
	now := time.Now().UTC().Truncate(time.Second)
	l := licence.Licence{ID: uuid.New(), Holder: c.Holder, Seats: c.Seats, Enforce: c.Enforce, IssuedAt: now, ExpiresAt: day.AddDate(0, 0, 1)}
	if l.Expired(now) {
		return usagef("--expires: %s is over", c.Expires)
	}
	text, err := os.ReadFile(c.Key)
	if err != nil {
		return err
	}
	key, err := licence.ParsePrivateKey(text)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Key, err)
	}
	signed, err := licence.Sign(l, key)
	if err != nil {
		return usageError{err}
	}
	if err := writeNew(c.Output, signed, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "Licence %s is in %s.\n", l.ID, c.Output)
	return nil
}

// licenceCheck is "worktally licence check".
type licenceCheck struct {
	File      string `arg:"" help:"The licence file."`
	PublicKey string `required:"" name:"public-key" placeholder:"FILE" help:"File with the public key."`
	output
}

// Run prints the licence if it is genuine, and fails if it has expired.
func (c licenceCheck) Run(p *program) error {
	text, err := os.ReadFile(c.PublicKey)
	if err != nil {
		return err
	}
	key, err := licence.ParsePublicKey(text)
	if err != nil {
		return fmt.Errorf("%s: %w", c.PublicKey, err)
	}
	if text, err = os.ReadFile(c.File); err != nil {
		return err
	}
	l, err := licence.Parse(text, key)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	if c.Output == "json" {
		err = p.writeJSON(l)
	} else {
		seats := "no limit"
		if l.Seats > 0 {
			seats = fmt.Sprint(l.Seats)
		}
		_, err = fmt.Fprintf(p.stdout, "id       %s\nholder   %s\nseats    %s\nenforced %t\nissued   %s\nexpires  %s\n",
			l.ID, l.Holder, seats, l.Enforce, l.IssuedAt.Format(time.RFC3339), l.ExpiresAt.Format(time.RFC3339))
	}
	if err == nil && l.Expired(time.Now()) {
		return fmt.Errorf("%s: the licence has expired on %s", c.File, l.ExpiresAt.Format(time.RFC3339))
	}
	return err
}
