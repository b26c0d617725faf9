package agentssh

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/internal/smallfile"
)

// hostKeyFile is the name of the host key in the state directory.
const hostKeyFile = "ssh_host_ed25519_key"

// maxHostKey bounds how much of it is read.
const maxHostKey = 64 << 10

// ErrHostKeyNotKept says that there is no host key, and that none can be written.
var ErrHostKeyNotKept = errors.New("the host key cannot be kept")

// LoadOrCreateHostKey returns the ed25519 host key kept in dir, after making the
// directory (0700) and the key (0600, OpenSSH's format) if there are none. A key
// that cannot be read is an error and never replaced: clients would take the new
// one for an attack. If there is none and none can be written the error is
// ErrHostKeyNotKept.
func LoadOrCreateHostKey(dir string) (ssh.Signer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHostKeyNotKept, err)
	}
	path := filepath.Join(dir, hostKeyFile)
	signer, err := loadHostKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return signer, err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a host key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, fmt.Errorf("make a host key: %w", err)
	}
	temp, err := writeTemp(path, pem.EncodeToMemory(block))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHostKeyNotKept, err)
	}
	defer os.Remove(temp)
	// A link, unlike a rename, does not replace the key that another process may
	// have made in the meantime.
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w: %w", ErrHostKeyNotKept, err)
	}
	return loadHostKey(path)
}

func loadHostKey(path string) (ssh.Signer, error) {
	b, err := smallfile.Read(path, maxHostKey)
	if err != nil {
		return nil, fmt.Errorf("read the host key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("read the host key %s (remove it to get a new one): %w", path, err)
	}
	return signer, nil
}
