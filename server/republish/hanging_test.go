package republish

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire/worktallypb"
)

// hanging is a ledger whose database does not answer one read: its host is gone and
// nothing says so.
type hanging struct {
	*store
	hang atomic.Bool
}

func (h *hanging) DeploymentTotals(ctx context.Context) ([]*worktallypb.Series, error) {
	if h.hang.CompareAndSwap(true, false) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.store.DeploymentTotals(ctx)
}

// TestRun_ReadThatHangs: the next reading of the database is answered, and shown.
func TestRun_ReadThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{totals: []*worktallypb.Series{series("agent_scripts_executed_total", 1, "success", "true")}}
		h := &hanging{store: s}
		p := newPublisher(t, s, func(o *Options) { o.Ledger, o.Replica = h, "here" })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		h.hang.Store(true)
		time.Sleep(2 * time.Second)
		id := identity("box")
		s.set(func() {
			s.totals = []*worktallypb.Series{series("agent_scripts_executed_total", 100, "success", "true")}
			s.statuses = []catalog.AgentStatus{status(id)}
		})
		time.Sleep(10 * time.Minute)
		want(t, p, map[string]string{
			`worktally_workspace_scripts_total{success="true"}`:                                              "100",
			`coderd_agents_up{template_name="go",template_version="v1",username="ann",workspace_name="box"}`: "0",
		})
		cancel()
		<-done
	})
}
