package exposition

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRow_Wide: a row with more values than fit into 64 KiB, and the last that does
// not need to be one, show every value.
func TestRow_Wide(t *testing.T) {
	for _, n := range []int{maxNarrow, maxNarrow + 1, 70_000} {
		table := NewTable()
		b := table.NewBuilder(Names{AgentName: "a"})
		want := make(map[string]bool, n)
		for i := range n {
			v := -math.SmallestNonzeroFloat64 * float64(i) // the longest there are
			must(t, b.Add("agent_dropped_total", v, Label{"what", fmt.Sprint(i)}))
			want[fmt.Sprintf(`agent_dropped_total{agent_name="a",what="%d"} %s`, i, appendValue(nil, v))] = true
		}
		r := b.Row()
		page := Page{Table: table, Sides: ServerCollect, Rows: []*Row{r}}
		size := 0
		for line := range bytes.Lines(render(t, page, Text)) {
			if line[0] != '#' {
				delete(want, strings.TrimSpace(string(line)))
				size += len(line)
			}
		}
		if len(want) > 0 || r.Len() != n || r.TextSize() != size {
			t.Errorf("%d values: %d are missing; %d samples, %d bytes instead of %d", n, len(want), r.Len(), r.TextSize(), size)
		}
	}
}

func TestRow_With(t *testing.T) {
	table := NewTable()
	page := samplePage(t)
	old := page.Rows[0]
	before := render(t, page, Text)
	page.Rows[0] = old.With(table, Value{"coderd_agentstats_rx_bytes", 1.5}, Value{"coderd_agentstats_tx_bytes", 7}, Value{"up", 7})
	line := []byte("\ncoderd_agentstats_rx_bytes{agent_name=\"main\",username=\"owner\",workspace_name=\"quo\\\"te\\\\back\\nline\"} ")
	want := bytes.Replace(before, append(line[:len(line):len(line)], "0\n"...), append(line[:len(line):len(line)], "1.5\n"...), 1)
	if diff := cmp.Diff(string(want), string(render(t, page, Text))); diff != "" || bytes.Equal(before, want) {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	page.Rows[0] = old
	if !bytes.Equal(before, render(t, page, Text)) {
		t.Error("the old row has changed")
	}
}

func TestBuilder_LimitAndUndo(t *testing.T) {
	table := NewTable()
	b := table.NewBuilder(Names{AgentName: "a"})
	add := func(what string) error { return b.Add("agent_dropped_total", 1, Label{"what", what}) }
	b.Limit(2, 0)
	must(t, add("1"))
	must(t, add("2"))
	if err := add("3"); !errors.Is(err, ErrTooMany) {
		t.Errorf("the third of two: %v", err)
	}
	b.Undo(1)
	if err := add("1"); !errors.Is(err, ErrDuplicate) {
		t.Errorf("what was left is forgotten: %v", err)
	}
	must(t, add("2")) // it is gone and may come again
	b.Limit(0, 1000)
	if err := add(strings.Repeat("x", 1000)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("1000 bytes beside others: %v", err)
	}
	must(t, add("3"))
	if b.Undo(0); b.Len() != 0 {
		t.Errorf("%d samples are left", b.Len())
	}
	must(t, add("1"))
	page := Page{Table: table, Sides: ServerCollect, Rows: []*Row{b.Row()}}
	if text := string(render(t, page, Text)); strings.Count(text, "\nagent_dropped_total{") != 1 {
		t.Error(text)
	}
}

// TestShapes: rows of a kind share one, one that no row has is forgotten, and there
// is an end to how many are known.
func TestShapes(t *testing.T) {
	table := NewTable()
	row := func(workspace, what string) *Row {
		b := table.NewBuilder(Names{AgentName: "a", WorkspaceName: workspace})
		must(t, b.Add("agent_dropped_total", 1, Label{"what", what}))
		return b.Row()
	}
	one, two, other := row("one", "x"), row("two", "x"), row("two", "y")
	if one.shape != two.shape || one.shape == other.shape {
		t.Error("not the rows of a kind share a shape")
	}
	rows := make([]*Row, maxShapes+100)
	for i := range rows {
		rows[i] = row("many", fmt.Sprint(i))
	}
	known := table.shapes.shapes.len
	if n := known(); n != maxShapes {
		t.Errorf("%d shapes are known, the limit is %d", n, maxShapes)
	}
	page := Page{Table: table, Sides: ServerCollect, Rows: rows}
	if n := bytes.Count(render(t, page, Text), []byte("\nagent_dropped_total{")); n != len(rows) {
		t.Errorf("%d of %d rows are shown", n, len(rows))
	}
	runtime.KeepAlive(rows)
	page, rows = Page{}, nil
	if n := table.shapes.blocks.len(); n != maxShapes+102 {
		t.Errorf("%d blocks are known", n)
	}
	for deadline := time.Now().Add(time.Minute); known() > 2; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatalf("%d shapes are known after all but three rows are gone", known())
		}
	}
	runtime.KeepAlive([]*Row{one, two, other})
}

// FuzzLabels: rendered labels come back as they were.
func FuzzLabels(f *testing.F) {
	f.Add("quote\" back\\slash\nline", `\n`, `\`)
	f.Fuzz(func(t *testing.T, one, two, three string) {
		var want, got []Label
		for i, v := range []string{one, two, three} {
			if v != "" {
				want = append(want, Label{string(rune('a' + i)), v})
			}
		}
		for rest := renderLabels(want); rest != ""; {
			var l Label
			l.Name, l.Value, rest = nextLabel(rest)
			got = append(got, l)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("labels (-want +got):\n%s", diff)
		}
	})
}

// TestText_RowsOfEveryKind: rows with and without a family, with shapes of their
// own and shared ones, near the end and far from it.
func TestText_RowsOfEveryKind(t *testing.T) {
	table := NewTable()
	for i := range 130 { // a second and a third word of bits
		table = table.Extend(Family{Name: fmt.Sprintf("agent_more_%d", i), Type: Gauge, Help: "More.", Identity: Agent, Sides: ServerCollect})
	}
	want := make(map[string]bool)
	page := Page{Table: table, Sides: ServerCollect}
	for i := range 2000 {
		b := table.NewBuilder(Names{AgentName: "a", WorkspaceName: fmt.Sprint(i)})
		for _, family := range []int{i % 7, 64 + i%3, 100 + i*i%29, 129} {
			name := fmt.Sprintf("agent_more_%d", family)
			if i%5 > 0 {
				must(t, b.Add(name, float64(i)))
				want[fmt.Sprintf(`%s{agent_name="a",workspace_name="%d"} %d`, name, i, i)] = true
			}
		}
		page.Rows = append(page.Rows, b.Row())
	}
	text := render(t, page, Text)
	for line := range bytes.Lines(text) {
		if s := strings.TrimSpace(string(line)); line[0] != '#' {
			if !want[s] {
				t.Errorf("%s should not be there, or not twice", s)
			}
			delete(want, s)
		}
	}
	if len(want) > 0 {
		t.Errorf("%d samples are missing", len(want))
	}
}
