package controlapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/uuid"
)

// How long a resume token is good, and after what time a client fetches the next.
const (
	resumeValid   = 24 * time.Hour
	resumeRefresh = 12 * time.Hour
)

// resumeToken lets a client be the same peer again after it has lost its
// connection. It is worth nothing without the person's own token.
type resumeToken struct {
	peer, agent, user uuid.UUID
	expires           time.Time
}

// The layout of a resume token, in base64 for URLs:
//
//	 0  1  version, 1
//	 1 16  peer
//	17 16  agent
//	33 16  user
//	49  8  expiry, Unix seconds, big endian
//	57 32  HMAC-SHA256 of what stands before
const (
	resumeVersion = 1
	resumeSigned  = 57
	resumeSize    = resumeSigned + sha256.Size
)

var (
	errResumeInvalid = errors.New("the token was not made by this server")
	errResumeExpired = errors.New("the token has expired")
)

// signResume writes a token with a key.
func signResume(key []byte, t resumeToken) string {
	b := make([]byte, 0, resumeSize)
	b = append(b, resumeVersion)
	b = append(b, t.peer[:]...)
	b = append(b, t.agent[:]...)
	b = append(b, t.user[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.expires.Unix()))
	return base64.RawURLEncoding.EncodeToString(resumeMAC(key, b))
}

// resumeMAC appends the signature of b.
func resumeMAC(key, b []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(b)
	return h.Sum(b)
}

// parseResume reads a token that was signed with the key and has not expired.
func parseResume(key []byte, text string, now time.Time) (t resumeToken, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != resumeSize || b[0] != resumeVersion {
		return resumeToken{}, errResumeInvalid
	}
	signed := b[:resumeSigned:resumeSigned]
	if !hmac.Equal(resumeMAC(key, signed), b) {
		return resumeToken{}, errResumeInvalid
	}
	copy(t.peer[:], b[1:])
	copy(t.agent[:], b[17:])
	copy(t.user[:], b[33:])
	t.expires = time.Unix(int64(binary.BigEndian.Uint64(b[49:])), 0)
	if !now.Before(t.expires) {
		return resumeToken{}, errResumeExpired
	}
	return t, nil
}
