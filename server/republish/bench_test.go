package republish

import (
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/wire/worktallypb"
)

// distribution is a histogram as agents send it: without the buckets that are 0.
func distribution(name string, empty int, labels ...string) (h []*worktallypb.Series) {
	bounds := []float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, math.Inf(1)}
	for i, bound := range bounds[min(empty, len(bounds)-1):] {
		h = append(h, series(name+"_bucket", float64(min(i+1, 5)), append([]string{"le", exposition.FormatBound(bound)}, labels...)...))
	}
	n := h[len(h)-1].Value
	return append(h, series(name+"_sum", n, labels...), series(name+"_count", n, labels...))
}

// usual is what an agent in use has in its report. No two of many agents have the
// same series.
func usual(i int) (catalog.Identity, ledger.Outcome) {
	id := catalog.Identity{
		Agent: catalog.Agent{Name: "main"}, Owner: catalog.User{Username: fmt.Sprintf("user%05d", i/2)},
		Workspace: catalog.Workspace{ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)), Name: fmt.Sprintf("workspace-%06d", i), Template: catalog.Template{Name: "kubernetes"}},
	}
	v := float64(i % 1000)
	o := outcome(id, uint64(i)+1, 1, append(histogram("start", []float64{1, 2, 3}, 3),
		series("agent_scripts_executed_total", v, "success", "true"), series("agent_network_receive_bytes_total", v*1e6, "path", "p2p"),
		series("agent_network_transmit_bytes_total", v*1e5, "path", "p2p"), series("agent_network_receive_packets_total", v, "path", "p2p"),
		series("agent_sessions_total", v, "magic_type", "vscode", "pty", "no"), series("agent_sessions_opened_total", v, "via", "ssh"),
		series("agent_sessions_ended_total", v, "family", "vscode", "reason", "exited"), series("agent_script_runs_total", 1, "stage", "start", "status", "ok"))...)
	for j, h := range []struct{ family, label, value string }{
		{"agent_peer_round_trip_seconds", "path", "p2p"}, {"agent_peer_round_trip_seconds", "path", "derp"},
		{"agent_session_duration_seconds", "family", "vscode"}, {"agent_session_duration_seconds", "family", "ssh"}, {"agent_script_duration_seconds", "stage", "cron"},
	} {
		empty := i
		for range j {
			empty /= 11
		}
		o.Latest.Totals = append(o.Latest.Totals, distribution(h.family, empty%11, h.label, h.value)...)
	}
	o.Latest.Gauges.MedianLatencySeconds = proto.Float64(v / 1e4)
	o.Latest.Gauges.Series = []*worktallypb.Series{
		series("coderd_agentstats_startup_script_seconds", 3.5, "success", "true"), series("agent_open_sessions", 1, "app_name", "vscode", "family", "vscode"),
	}
	return id, o
}

func BenchmarkReported(b *testing.B) {
	p := newPublisher(b, &store{}, nil)
	id, o := usual(7)
	b.ReportAllocs()
	for b.Loop() {
		p.Reported(id, time.Now(), o)
	}
}

// BenchmarkPage has as many agents as a large deployment, each with everything
// that the server shows of it.
func BenchmarkPage(b *testing.B) {
	const agents = 100_000
	before := heap()
	p := newPublisher(b, &store{}, nil)
	for i := range agents {
		id, o := usual(i)
		p.Reported(id, time.Now(), o)
	}
	retained := heap() - before
	for f, name := range map[exposition.Format]string{exposition.Text: "text", exposition.OpenMetrics: "openmetrics"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var n written
			for b.Loop() {
				n = 0
				page := p.Page()
				must(b, page.Write(&n, f))
			}
			b.SetBytes(int64(n))
			b.ReportMetric(float64(p.agents.series), "series")
			b.ReportMetric(retained/1e6, "MB-retained")
		})
	}
}

type written int64

func (w *written) Write(p []byte) (int, error) { *w += written(len(p)); return len(p), nil }

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
