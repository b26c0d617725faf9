package licence

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// The kinds of PEM blocks, as other tools write them (openssl genpkey -algorithm
// ed25519, openssl pkey -pubout).
const (
	privateBlock = "PRIVATE KEY"
	publicBlock  = "PUBLIC KEY"
)

// NewKeys returns a new pair of keys as PEM. The first is a secret.
func NewKeys() (private, public []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	privDER, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the key: %w", err)
	}
	pubDER, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: privDER}), pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: pubDER}), nil
}

// ParsePrivateKey reads a key that signs licences. Its errors show nothing of it.
func ParsePrivateKey(text []byte) (ed25519.PrivateKey, error) {
	der, err := block(text, privateBlock)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if k, ok := key.(ed25519.PrivateKey); err == nil && ok {
		return k, nil
	}
	return nil, errors.New("not an Ed25519 private key")
}

// ParsePublicKey reads a key that verifies licences.
func ParsePublicKey(text []byte) (ed25519.PublicKey, error) {
	der, err := block(text, publicBlock)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if k, ok := key.(ed25519.PublicKey); err == nil && ok {
		return k, nil
	}
	return nil, errors.New("not an Ed25519 public key")
}

func block(text []byte, kind string) ([]byte, error) {
	b, _ := pem.Decode(text)
	if b == nil {
		return nil, fmt.Errorf("there is no PEM block; want -----BEGIN %s-----", kind)
	}
	if b.Type != kind {
		return nil, fmt.Errorf("the PEM block is a %q; want -----BEGIN %s-----", b.Type, kind)
	}
	return b.Bytes, nil
}
