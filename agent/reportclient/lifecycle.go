package reportclient

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/wire/agentpb"
)

// lifecycle reports every state once and in order (contract agent-api.md 6.2).
type lifecycle struct {
	tally *stats.Tally
	queue *queue[*agentpb.Lifecycle]
	// mu guards last: states only move forward.
	mu   sync.Mutex
	last agentpb.Lifecycle_State
}

func newLifecycle(t *stats.Tally, wake signal) *lifecycle {
	// There are nine states and none is reported twice.
	return &lifecycle{tally: t, queue: newQueue[*agentpb.Lifecycle](16, wake), last: agentpb.Lifecycle_CREATED}
}

// SetLifecycle enters a state now. Going back is ignored.
func (c *Client) SetLifecycle(s agentpb.Lifecycle_State) {
	l := c.lifecycle
	l.mu.Lock()
	defer l.mu.Unlock()
	if s <= l.last {
		return
	}
	l.last = s
	if !l.queue.put(&agentpb.Lifecycle{State: s, ChangedAt: timestamppb.Now()}) {
		l.tally.Drop(stats.DropLifecycle, 1)
	}
}

// LifecycleReported waits until every state has been reported.
func (c *Client) LifecycleReported(ctx context.Context) error { return c.lifecycle.queue.drained(ctx) }

// next is a sender's.
func (l *lifecycle) next(ctx context.Context, api agentpb.DRPCAgentClient) (sent bool, due time.Time, err error) {
	state, ok := l.queue.head()
	if !ok {
		return false, time.Time{}, nil
	}
	if _, err := api.UpdateLifecycle(ctx, &agentpb.UpdateLifecycleRequest{Lifecycle: state}); err != nil {
		return false, time.Time{}, err
	}
	l.queue.pop()
	return true, time.Time{}, nil
}
