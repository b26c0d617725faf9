package catalog

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"

	"github.com/google/uuid"
)

// newUserToken returns at least 128 random bits as text.
func newUserToken() string { return rand.Text() }

// newAgentToken returns a random UUID: agents accept nothing else.
func newAgentToken() string { return uuid.NewString() }

// hashToken is what is stored of a token. Tokens are random and long, so a plain
// hash cannot be searched.
func hashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// sameHash compares in constant time.
func sameHash(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
