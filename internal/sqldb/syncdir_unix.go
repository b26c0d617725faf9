//go:build unix

package sqldb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// syncDir makes the new names of files in path's directory last.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("sync the database's directory: %w", err)
	}
	return nil
}
