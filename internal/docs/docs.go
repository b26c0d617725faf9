// Package docs keeps documents and program together: a section of a document
// between two markers is compared with what the program says, or rewritten.
package docs

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Root returns the directory of the repository.
func Root(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("no caller information")
	}
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Section compares the part of a document between <!-- name --> and
// <!-- /name --> with want; with update it is rewritten.
func Section(t testing.TB, document, name, want string, update bool) {
	t.Helper()
	path := filepath.Join(Root(t), document)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	open, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	before, rest, ok := strings.Cut(string(text), open)
	got, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no section %q", document, name)
	}
	if update {
		if err := os.WriteFile(path, []byte(before+open+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s, section %q (make golden rewrites it) (-want +got):\n%s", document, name, diff)
	}
}
