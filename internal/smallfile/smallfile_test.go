//go:build unix

package smallfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRead(t *testing.T) {
	path := func(name string) string { return filepath.Join(t.TempDir(), name) }
	regular, pipe, sparse, link := path("regular"), path("pipe"), path("sparse"), path("link")
	if err := errors.Join(
		os.WriteFile(regular, []byte("12345678"), 0o600), syscall.Mkfifo(pipe, 0o600), os.WriteFile(sparse, nil, 0o600),
		os.Truncate(sparse, 1<<40), os.Symlink("/dev/zero", link),
	); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path  string
		limit int
		want  string // of the error
	}{
		{regular, 8, ""}, {regular, 7, "larger than 7 bytes"}, {os.DevNull, 0, ""}, {pipe, 8, "not a regular file"}, {sparse, 8, "larger than 8 bytes"},
		{link, 8, "not a regular file"}, {t.TempDir(), 8, "not a regular file"},
	} {
		b, err := Read(tc.path, tc.limit)
		switch {
		case tc.want == "" && err != nil, tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v", tc.path, err)
		case tc.path == regular && err == nil && string(b) != "12345678":
			t.Errorf("read %q", b)
		}
	}
	if _, err := Read(path("none"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
