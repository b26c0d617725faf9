package licence

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

const (
	// maxFile bounds a licence file, in bytes.
	maxFile = 64 << 10
	// maxHolder bounds the holder's name, in bytes, and maxSeats the seats.
	maxHolder, maxSeats = 256, 1_000_000_000
	// preamble stands before the claims when they are signed, so that no signature
	// made for something else fits.
	preamble = "worktally licence 1\n"
)

// The reasons for which a file is not a licence.
var (
	// ErrForged: the signature does not fit. The file was changed, or signed with
	// another key.
	ErrForged = errors.New("the signature does not fit the public key: the file was changed, or signed with another key")
	// ErrInvalid: it is no licence file, or one that makes no sense.
	ErrInvalid = errors.New("not a valid licence")
)

// Licence is what somebody signed.
type Licence struct {
	ID     uuid.UUID `json:"id"`
	Holder string    `json:"holder"`
	// Seats is how many active people it is for; 0 means no limit.
	Seats int `json:"seats"`
	// Enforce says whether the limit is to be enforced.
	Enforce   bool      `json:"enforce"`
	IssuedAt  time.Time `json:"issued_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Expired reports whether the licence is over.
func (l Licence) Expired(now time.Time) bool { return !now.Before(l.ExpiresAt) }

// Enforced reports whether the limit of seats is enforced now.
func (l Licence) Enforced(now time.Time) bool { return l.Enforce && l.Seats > 0 && !l.Expired(now) }

func (l Licence) check() error {
	switch {
	case l.ID == uuid.Nil:
		return fmt.Errorf("%w: it has no id", ErrInvalid)
	case strings.TrimSpace(l.Holder) == "" || len(l.Holder) > maxHolder || !utf8.ValidString(l.Holder) || strings.ContainsFunc(l.Holder, unicode.IsControl):
		return fmt.Errorf("%w: the holder needs a name of up to %d bytes in one line", ErrInvalid, maxHolder)
	case l.Seats < 0 || l.Seats > maxSeats:
		return fmt.Errorf("%w: %d seats", ErrInvalid, l.Seats)
	case l.Enforce && l.Seats == 0:
		return fmt.Errorf("%w: there is no limit of seats that could be enforced", ErrInvalid)
	case l.IssuedAt.IsZero() || !l.ExpiresAt.After(l.IssuedAt):
		return fmt.Errorf("%w: it ends before it begins", ErrInvalid)
	}
	return nil
}

// file is a licence file.
type file struct {
	Claims    []byte `json:"claims"`
	Signature []byte `json:"signature"`
}

// Sign returns the text of a licence file.
func Sign(l Licence, key ed25519.PrivateKey) ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	claims, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encode the licence: %w", err)
	}
	text, err := json.MarshalIndent(file{claims, ed25519.Sign(key, signed(claims))}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the licence: %w", err)
	}
	return append(text, '\n'), nil
}

func signed(claims []byte) []byte { return append([]byte(preamble), claims...) }

// Parse verifies and reads the text of a licence file. Its errors wrap ErrForged
// or ErrInvalid. Whether the licence has expired is for the caller to ask.
func Parse(text []byte, key ed25519.PublicKey) (Licence, error) {
	if len(text) > maxFile {
		return Licence{}, fmt.Errorf("%w: it is larger than %d bytes", ErrInvalid, maxFile)
	}
	var f file
	if err := strict(text, &f); err != nil {
		return Licence{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if !ed25519.Verify(key, signed(f.Claims), f.Signature) {
		return Licence{}, ErrForged
	}
	var l Licence
	if err := strict(f.Claims, &l); err != nil {
		return Licence{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return l, l.check()
}

// strict decodes one JSON value without fields that are not known.
func strict(text []byte, out any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(out); err != nil {
		return err
	}
	if dec.Decode(new(any)) != io.EOF {
		return errors.New("something follows the JSON value")
	}
	return nil
}
