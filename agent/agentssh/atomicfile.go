package agentssh

import (
	"os"
	"path/filepath"
)

// writeTemp writes a synced file with mode 0600 beside path and returns its name.
func writeTemp(path string, b []byte) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-")
	if err != nil {
		return "", err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(b); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

// replaceFile puts a file with the content in the place of path at once.
func replaceFile(path string, b []byte) error {
	temp, err := writeTemp(path, b)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return err
	}
	return nil
}
