package sqldb

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

var errLocked = errors.New("locked by another process")

// lock keeps other servers away from an SQLite file until the returned file is
// closed: each believes that its memory is what the database says. The lock file
// stays, for removing it would let two servers in.
func lock(path string) (*os.File, error) {
	name := path + ".lock"
	f, err := tryLock(name)
	if errors.Is(err, errLocked) {
		holder := "another process"
		if text, err := os.ReadFile(name); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
				holder = fmt.Sprintf("process %d", pid)
			}
		}
		return nil, fmt.Errorf("the database %s is in use by another server (%s): stop that one, or give this one a database of its own", path, holder)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the database: %w", err)
	}
	// Who holds it is only told for people, and a full disk must not keep a server
	// from starting.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}
