package agent

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/exposition"
)

// TestZeros_AreTheTallys: zeros do not travel; the server shows those of the
// table instead, which must be those that the tally begins with.
func TestZeros_AreTheTallys(t *testing.T) {
	table := exposition.NewTable()
	names := exposition.Names{AgentName: "a", Username: "u", WorkspaceName: "w"}
	lines := func(fill func(*exposition.Builder)) map[string]bool {
		b := table.NewBuilder(names)
		fill(b)
		var page bytes.Buffer
		p := exposition.Page{Table: table, Sides: exposition.AgentPage, Rows: []*exposition.Row{b.Row()}}
		if err := p.Write(&page, exposition.Text); err != nil {
			t.Fatal(err)
		}
		m := make(map[string]bool)
		for line := range strings.Lines(page.String()) {
			name, _, _ := strings.Cut(line, "{")
			if f, _, ok := table.Lookup(name); ok && f.Zeros != nil && f.Type == exposition.Counter {
				m[line] = true
			}
		}
		return m
	}
	want := lines(func(b *exposition.Builder) {
		for _, s := range stats.New(stats.Options{}).Snapshot().Totals {
			labels := make([]exposition.Label, len(s.Labels))
			for i, l := range s.Labels {
				labels[i] = exposition.Label(l)
			}
			if err := b.Add(s.Name, s.Value, labels...); err != nil {
				t.Fatal(err)
			}
		}
	})
	got := lines(func(b *exposition.Builder) { b.FillZeros(func(f *exposition.Family) bool { return f.Forwarded }) })
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 50 {
		t.Errorf("%d zeros (-tally +table):\n%s", len(want), diff)
	}
}
