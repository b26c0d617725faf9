package exposition

import (
	"fmt"
	"strings"
	"testing"

	"github.com/worktally/worktally/internal/docs"
)

// familyTable writes the table of families as docs/metrics.md has it.
func familyTable(t *testing.T) string {
	var b strings.Builder
	var queries []string
	b.WriteString("| Family | Type | Labels | Where | Meaning | Example |\n|---|---|---|---|---|---|\n")
	for _, f := range NewTable().Families() {
		labels := make([]string, 0, len(f.Labels)+1)
		split := f.Labels
		if f.Identity != NoIdentity {
			split = append([]string{"workspace_name"}, split...)
		}
		query := docs.Query(f.Name, string(f.Type), split)
		queries = append(queries, query)
		switch f.Identity {
		case Agent:
			labels = append(labels, "*agent*")
		case AgentTemplate:
			labels = append(labels, "*agent*, *template*")
		}
		for _, l := range f.Labels {
			labels = append(labels, "`"+l+"`")
		}
		where := ""
		for i, side := range []Side{AgentPage, ServerPage, ServerCollect} {
			if f.Sides&side != 0 {
				where += "ASC"[i : i+1]
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | `%s` |\n", f.Name, f.Type, strings.Join(labels, ", "), where, f.Help, query)
	}
	docs.CheckQueries(t, queries)
	return b.String()
}

func TestDocs_Families(t *testing.T) {
	docs.Section(t, "docs/metrics.md", "families", familyTable(t), *update)
}
