package ledger

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire/worktallypb"
)

// reportWindow is about what an agent sends: 60 series, 8 of which change.
func reportWindow(epoch uuid.UUID, seq uint64) *worktallypb.Window {
	w := window(epoch, seq)
	for i := range 60 {
		v := float64(0)
		if i < 8 {
			v = float64(seq) * 1000
		}
		w.Totals = append(w.Totals, &worktallypb.Series{
			Name: fmt.Sprintf("agent_some_counter_%d_total", i), Labels: []string{"direction", "rx", "path", "tailnet"}, Value: v,
		})
	}
	w.Gauges.Sessions = []*worktallypb.OpenSessions{{AppName: "ssh", Family: "ssh", Count: 1}}
	return w
}

// BenchmarkCommit is one report of one of 1000 agents, from many callers at once.
func BenchmarkCommit(b *testing.B) {
	bench := func(b *testing.B, dsn string) {
		r := start(b, dsn, Options{})
		agents := make([]uuid.UUID, 1000)
		epochs := make([]uuid.UUID, len(agents))
		for i := range agents {
			agents[i], epochs[i] = uuid.New(), uuid.New()
		}
		var next atomic.Int64
		b.SetParallelism(200 / runtime.GOMAXPROCS(0))
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				n := int(next.Add(1))
				i, round := n%len(agents), n/len(agents)+1
				s := submission(t0.Add(time.Duration(round)*30*time.Second), reportWindow(epochs[i], uint64(round)))
				s.WorkspaceID = agents[i]
				if _, err := r.Commit(context.Background(), s); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.Run("SQLite", func(b *testing.B) { bench(b, filepath.Join(b.TempDir(), "bench.db")) })
	b.Run("PostgreSQL", func(b *testing.B) { bench(b, cluster.DSN(b)) })
}
