package agentssh

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/internal/smallfile"
)

// ParseAuthorizedKeys reads the lines of an authorized_keys file. A line that is
// no key, or carries options or a certificate, which are not supported here and
// would restrict the key elsewhere, gives a warning that names it and no key.
func ParseAuthorizedKeys(data []byte) (keys []ssh.PublicKey, warnings []error) {
	number := 0
	for line := range bytes.Lines(data) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, _, options, _, err := ssh.ParseAuthorizedKey(line)
		switch {
		case err != nil:
			warnings = append(warnings, fmt.Errorf("line %d: not a key: %w", number, err))
		case len(options) > 0:
			warnings = append(warnings, fmt.Errorf("line %d: key refused: option %q is not supported", number, optionName(options[0])))
		case isCertificate(key):
			warnings = append(warnings, fmt.Errorf("line %d: key refused: certificates are not supported", number))
		default:
			keys = append(keys, key)
		}
	}
	return keys, warnings
}

// optionName leaves out the value, which may be a secret.
func optionName(option string) string {
	name, _, _ := strings.Cut(option, "=")
	return name
}

func isCertificate(key ssh.PublicKey) bool {
	_, is := key.(*ssh.Certificate)
	return is
}

// maxAuthorizedKeys bounds how much of a file is read.
const maxAuthorizedKeys = 1 << 20

// AuthorizedKeysFile returns a function for Options.AuthorizedKeys that reads the
// file at every call, so that a change counts at once. Warnings are logged when
// the file has changed. It may be called from any goroutine.
func AuthorizedKeysFile(path string, log *slog.Logger) func() ([]ssh.PublicKey, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var mu sync.Mutex // guards warned
	var warned []byte
	return func() ([]ssh.PublicKey, error) {
		data, err := smallfile.Read(path, maxAuthorizedKeys)
		if err != nil {
			return nil, fmt.Errorf("read authorized keys: %w", err)
		}
		keys, warnings := ParseAuthorizedKeys(data)
		mu.Lock()
		changed := !bytes.Equal(warned, data)
		warned = data
		mu.Unlock()
		if changed {
			for _, w := range warnings {
				log.Warn("authorized keys", "file", path, "err", w)
			}
		}
		return keys, nil
	}
}
