package reportclient

import (
	"context"
	"fmt"
	"sync"

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

func newLifecycle(t *stats.Tally) *lifecycle {
	// There are nine states and none is reported twice.
	return &lifecycle{tally: t, queue: newQueue[*agentpb.Lifecycle](16), last: agentpb.Lifecycle_CREATED}
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

func (l *lifecycle) send(ctx context.Context, api agentpb.DRPCAgentClient) error {
	for {
		state, err := l.queue.head(ctx)
		if err != nil {
			return err
		}
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		_, err = api.UpdateLifecycle(callCtx, &agentpb.UpdateLifecycleRequest{Lifecycle: state})
		cancel()
		if err != nil {
			return fmt.Errorf("update lifecycle: %w", err)
		}
		l.queue.pop()
	}
}
