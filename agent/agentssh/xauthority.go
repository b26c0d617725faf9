package agentssh

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/worktally/worktally/internal/smallfile"
)

// An Xauthority file is a sequence of entries, each of them
//
//	family   uint16
//	address  uint16 length, bytes
//	number   uint16 length, bytes (decimal display number)
//	name     uint16 length, bytes (of the authorization protocol)
//	data     uint16 length, bytes
//
// with all numbers big endian (libXau).
type xauthEntry struct {
	family                      uint16
	address, number, name, data string
}

// familyLocal is the family of displays reached through this host.
const familyLocal = 0x0100

// maxXauthority bounds how much of a file is read.
const maxXauthority = 1 << 20

var errXauthority = errors.New("malformed Xauthority file")

func parseXauthority(b []byte) ([]xauthEntry, error) {
	var entries []xauthEntry
	for len(b) > 0 {
		if len(b) < 2 {
			return nil, errXauthority
		}
		e := xauthEntry{family: binary.BigEndian.Uint16(b)}
		b = b[2:]
		for _, field := range []*string{&e.address, &e.number, &e.name, &e.data} {
			if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
				return nil, errXauthority
			}
			n := int(binary.BigEndian.Uint16(b))
			*field, b = string(b[2:2+n]), b[2+n:]
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func formatXauthority(entries []xauthEntry) ([]byte, error) {
	var b []byte
	for _, e := range entries {
		b = binary.BigEndian.AppendUint16(b, e.family)
		for _, field := range []string{e.address, e.number, e.name, e.data} {
			if len(field) > 1<<16-1 {
				return nil, errors.New("xauthority entry is too long")
			}
			b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
			b = append(b, field...)
		}
	}
	return b, nil
}

// mergeXauthority puts e in the place of the first entry for the same display and
// protocol, drops the other ones, and appends it if there was none.
func mergeXauthority(entries []xauthEntry, e xauthEntry) []xauthEntry {
	var merged []xauthEntry
	placed := false
	for _, old := range entries {
		if old.family != e.family || old.address != e.address || old.number != e.number || old.name != e.name {
			merged = append(merged, old)
		} else if !placed {
			merged, placed = append(merged, e), true
		}
	}
	if !placed {
		merged = append(merged, e)
	}
	return merged
}

// addXauthority adds an entry to the file under the lock that xauth and libXau
// use. The file is replaced as a whole, so that no reader sees half of it.
func addXauthority(ctx context.Context, path string, e xauthEntry) error {
	unlock, err := lockXauthority(ctx, path)
	if err != nil {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	defer unlock()
	old, err := smallfile.Read(path, maxXauthority)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read X11 cookies: %w", err)
	}
	entries, err := parseXauthority(old)
	if err != nil {
		return fmt.Errorf("read X11 cookies from %s: %w", path, err)
	}
	b, err := formatXauthority(mergeXauthority(entries, e))
	if err != nil {
		return err
	}
	if bytes.Equal(b, old) {
		return nil
	}
	if err := replaceFile(path, b); err != nil {
		return fmt.Errorf("write X11 cookies: %w", err)
	}
	return nil
}

// The lock of libXau: a file "-c" is created and linked to "-l", which is the
// lock. Whoever died with it is taken to be dead after a while.
const (
	lockRetry = 100 * time.Millisecond
	lockDead  = 10 * time.Second
	lockWait  = 15 * time.Second
)

func lockXauthority(ctx context.Context, path string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	create, lock := path+"-c", path+"-l"
	remove := func() {
		os.Remove(create)
		os.Remove(lock)
	}
	for {
		if info, err := os.Stat(lock); err == nil && time.Since(info.ModTime()).Abs() > lockDead {
			remove()
		}
		f, err := os.OpenFile(create, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			f.Close()
			if err = os.Link(create, lock); err == nil {
				return remove, nil
			}
			os.Remove(create)
		} else if info, statErr := os.Stat(create); statErr == nil && time.Since(info.ModTime()).Abs() > lockDead {
			os.Remove(create)
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("somebody else holds the lock: %w", ctx.Err())
		case <-time.After(lockRetry):
		}
	}
}
