package reportclient

import (
	"context"
	"time"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/wire/agentpb"
)

// maxTimings bounds the waiting script timings.
const maxTimings = 1024

type timingQueue struct {
	tally *stats.Tally
	queue *queue[*agentpb.Timing]
}

func newTimingQueue(t *stats.Tally, wake signal) *timingQueue {
	return &timingQueue{tally: t, queue: newQueue[*agentpb.Timing](maxTimings, wake)}
}

// ReportTiming queues the timing of an ended script run; it never blocks.
func (c *Client) ReportTiming(t *agentpb.Timing) {
	if !c.timings.queue.put(t) {
		c.timings.tally.Drop(stats.DropScriptTimings, 1)
	}
}

// next is a sender's.
func (q *timingQueue) next(ctx context.Context, api agentpb.DRPCAgentClient) (sent bool, due time.Time, err error) {
	t, ok := q.queue.head()
	if !ok {
		return false, due, nil
	}
	if _, err := api.ScriptCompleted(ctx, &agentpb.WorkspaceAgentScriptCompletedRequest{Timing: t}); err != nil {
		return false, due, err
	}
	q.queue.pop()
	return true, due, nil
}

// drop is a sender's.
func (q *timingQueue) drop() {
	q.tally.Drop(stats.DropScriptTimings, 1)
	q.queue.pop()
}
