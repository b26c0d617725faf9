package houserules

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestNotice: every module that a program links is in NOTICE, under a licence
// that lets everybody use it.
func TestNotice(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "NOTICE"))
	if err != nil {
		t.Fatal(err)
	}
	licences := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "  ") && len(f) == 2 {
			licences[f[0]] = f[1]
		}
	}
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./cmd/...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	permissive := []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "CC0-1.0"}
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	for _, m := range slices.Compact(modules) {
		if m+"/" == module {
			continue
		}
		licence := licences[m]
		allowed := slices.Contains(permissive, licence) || m == "github.com/hashicorp/yamux" && licence == "MPL-2.0"
		if !allowed {
			t.Errorf("NOTICE has no permissive licence for %s: %q", m, licence)
		}
	}
}
