package controlapi

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	dto "github.com/prometheus/client_model/go"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/docs"
)

var update = flag.Bool("update", false, "rewrite docs/metrics.md")

// TestDocs_API: the families of the API, which have series only after a request,
// are in the document.
func TestDocs_API(t *testing.T) {
	c := newCounted(t, exposition.LabelsBoth)
	c.ask("GET", "/api/v2/silent")
	ws, _, err := websocket.Dial(t.Context(), c.URL+"/api/v2/socket", nil)
	must(t, err)
	must(t, ws.Close(websocket.StatusNormalClosure, ""))
	c.until("the websocket is counted", func() bool { return strings.Contains(c.series(processed), "101") })
	families, err := c.reg.Gather()
	must(t, err)
	// server/docs_test.go has those that are always there.
	families = slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), "coderd_") })
	docs.Section(t, "docs/metrics.md", "api", docs.Families(t, families), *update)
}
