package server

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/worktally/worktally/internal/docs"
)

var update = flag.Bool("update", false, "rewrite docs/metrics.md")

// TestDocs_Registry: the families that the server's parts register are in the
// document.
func TestDocs_Registry(t *testing.T) {
	s, err := New(t.Context(), Options{HTTPAddress: "127.0.0.1:0", StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| Family | Type | Labels | Meaning |\n|---|---|---|---|\n")
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "worktally_") && !strings.HasPrefix(f.GetName(), "coderd_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	docs.Section(t, "docs/metrics.md", "registry", b.String(), *update)
}
