package server

import (
	"flag"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

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
	runtime := slices.Clone(families)
	ours := func(f *dto.MetricFamily) bool {
		return strings.HasPrefix(f.GetName(), "worktally_") || strings.HasPrefix(f.GetName(), "coderd_")
	}
	families = slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return !ours(f) })
	docs.Section(t, "docs/metrics.md", "runtime", docs.Families(t, slices.DeleteFunc(runtime, ours)), *update)
	docs.Section(t, "docs/metrics.md", "registry", docs.Families(t, families), *update)
}
