package gitauth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// KeySize is the length of the key that seals secrets, in bytes.
const KeySize = 32

// ErrSealed: something was not sealed with this key, or not for this place.
var ErrSealed = errors.New("it cannot be opened: it was sealed with another key, or changed")

// box seals secrets. It is safe for concurrent use.
type box struct{ aead cipher.AEAD }

// newBox derives a key from the master key, so that other uses of that one have
// keys of their own.
func newBox(master []byte) (box, error) {
	if len(master) != KeySize {
		return box{}, fmt.Errorf("the key for secrets has %d bytes, not %d", len(master), KeySize)
	}
	key, err := hkdf.Key(sha256.New, master, nil, "worktally gitauth 1", KeySize)
	if err != nil {
		return box{}, fmt.Errorf("derive a key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return box{}, err
	}
	aead, err := cipher.NewGCM(block)
	return box{aead}, err
}

// seal returns a random nonce and the sealed secret. It opens only with the same
// place.
func (b box) seal(secret []byte, place string) []byte {
	nonce := make([]byte, b.aead.NonceSize(), b.aead.NonceSize()+len(secret)+b.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails
	return b.aead.Seal(nonce, nonce, secret, []byte(place))
}

func (b box) open(sealed []byte, place string) ([]byte, error) {
	n := b.aead.NonceSize()
	if len(sealed) < n {
		return nil, ErrSealed
	}
	secret, err := b.aead.Open(nil, sealed[:n], sealed[n:], []byte(place))
	if err != nil {
		return nil, ErrSealed
	}
	return secret, nil
}
