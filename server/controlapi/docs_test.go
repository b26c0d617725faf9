package controlapi

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/coder/websocket"

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
	var b strings.Builder
	b.WriteString("| Family | Type | Labels | Meaning |\n|---|---|---|---|\n")
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "coderd_") {
			continue // server/docs_test.go has those that are always there
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	docs.Section(t, "docs/metrics.md", "api", b.String(), *update)
}
