package exposition

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
)

// agentsRow is what an agent of a deployment shows in 12 families.
func agentsRow(t testing.TB, table *Table, i int) *Row {
	b := table.NewBuilder(Names{
		AgentName: "main", Username: fmt.Sprintf("user%05d", i/2), WorkspaceName: fmt.Sprintf("workspace-%06d", i), TemplateName: "kubernetes",
	})
	add := func(name string, v float64, labels ...Label) {
		if err := b.Add(name, v, labels...); err != nil {
			t.Fatal(err)
		}
	}
	add("coderd_agentstats_connection_count", float64(i%7))
	add("coderd_agentstats_connection_median_latency_seconds", float64(i%1000)/1e4)
	add("coderd_agentstats_currently_reachable_peers", 1, Label{"connection_type", "p2p"})
	add("coderd_agentstats_rx_bytes", float64(i)*1234)
	add("coderd_agentstats_session_count_jetbrains", 0)
	add("coderd_agentstats_session_count_reconnecting_pty", 0)
	add("coderd_agentstats_session_count_ssh", float64(i%3))
	add("coderd_agentstats_session_count_vscode", 1)
	add("coderd_agentstats_startup_script_seconds", float64(i%100)+0.25, Label{"success", "true"})
	add("coderd_agentstats_tx_bytes", float64(i)*567)
	add("agent_scripts_executed_total", float64(i%50), Label{"success", "true"})
	add("agent_report_window_seconds", 30)
	return b.Row()
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

func largePage(b *testing.B, shuffled bool) Page {
	table := NewTable()
	p := Page{Table: table, Sides: ServerPage | ServerCollect}
	for i := range 100_000 {
		p.Rows = append(p.Rows, agentsRow(b, table, i))
	}
	if shuffled {
		rand.Shuffle(len(p.Rows), func(i, j int) { p.Rows[i], p.Rows[j] = p.Rows[j], p.Rows[i] })
	}
	runtime.GC()
	return p
}

func BenchmarkPage(b *testing.B) {
	for _, shuffled := range []bool{false, true} {
		p := largePage(b, shuffled)
		for _, f := range []Format{Text, OpenMetrics, Protobuf} {
			b.Run(fmt.Sprintf("format=%d/shuffled=%t", f, shuffled), func(b *testing.B) {
				b.ReportAllocs()
				var n counter
				for b.Loop() {
					n = 0
					must(b, p.Write(&n, f))
				}
				b.SetBytes(int64(n))
				b.ReportMetric(float64(n)/1e6, "MB")
			})
		}
	}
}

func BenchmarkMemcpy(b *testing.B) {
	from, to := make([]byte, 141<<20), make([]byte, 141<<20)
	for b.Loop() {
		copy(to, from)
	}
}

func BenchmarkRow(b *testing.B) {
	table := NewTable()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		agentsRow(b, table, i)
	}
}
