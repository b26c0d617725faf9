package houserules

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// sources returns the Go text of a package: that of its tests, or the other.
func sources(t *testing.T, pkg string, tests bool) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(t), pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") != tests {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}

// TestLimits_AreWhereTheTableSays reads the tables of docs/limits.md: lines
// "| what | limit | `package` `name` | `family{label="value"}` | `package` `test` |".
func TestLimits_AreWhereTheTableSays(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root(t), "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	families := read("metrics.md")
	pair := regexp.MustCompile("^`([a-z0-9/]+)` `([A-Za-z0-9_]+)`$")
	counter := regexp.MustCompile("^`([a-z_]+)(?:\\{[a-z]+=\"([a-z_]+)\"\\})?`$")
	var everything strings.Builder // where a label's value may stand
	for _, pkg := range []string{"agent/stats", "server", "server/agentapi", "server/controlapi", "server/republish", "server/coordinator", "internal/webserve"} {
		everything.WriteString(sources(t, pkg, false))
	}
	rows := 0
	for line := range strings.Lines(read("limits.md")) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) != 5 || cells[0] == "| What" {
			continue
		}
		rows++
		what := strings.TrimPrefix(cells[0], "| ")
		where, counted, test := pair.FindStringSubmatch(cells[2]), counter.FindStringSubmatch(cells[3]), pair.FindStringSubmatch(strings.TrimSuffix(cells[4], " |"))
		if where == nil || test == nil || counted == nil && cells[3] != "the peer" {
			t.Errorf("%s: the line cannot be read", what)
			continue
		}
		if !regexp.MustCompile(`\b` + where[2] + `\b`).MatchString(sources(t, where[1], false)) {
			t.Errorf("%s: %s has no %s", what, where[1], where[2])
		}
		if !strings.Contains(sources(t, test[1], true), "func "+test[2]+"(t *testing.T)") {
			t.Errorf("%s: %s has no %s", what, test[1], test[2])
		}
		if counted == nil {
			continue
		}
		if !strings.Contains(families, "| `"+counted[1]+"` |") {
			t.Errorf("%s: docs/metrics.md has no %s", what, counted[1])
		}
		if counted[2] != "" && !strings.Contains(everything.String(), `"`+counted[2]+`"`) {
			t.Errorf("%s: nothing is counted as %s", what, counted[2])
		}
	}
	if rows < 40 {
		t.Errorf("docs/limits.md has %d limits", rows)
	}
}
