package reportclient

import (
	"context"
	"fmt"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/wire/agentpb"
)

// maxTimings bounds the waiting script timings.
const maxTimings = 1024

type timingQueue struct {
	tally *stats.Tally
	queue *queue[*agentpb.Timing]
}

func newTimingQueue(t *stats.Tally) *timingQueue {
	return &timingQueue{tally: t, queue: newQueue[*agentpb.Timing](maxTimings)}
}

// ReportTiming queues the timing of an ended script run; it never blocks.
func (c *Client) ReportTiming(t *agentpb.Timing) {
	if !c.timings.queue.put(t) {
		c.timings.tally.Drop(stats.DropScriptTimings, 1)
	}
}

func (q *timingQueue) send(ctx context.Context, api agentpb.DRPCAgentClient) error {
	for {
		t, err := q.queue.head(ctx)
		if err != nil {
			return err
		}
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		_, err = api.ScriptCompleted(callCtx, &agentpb.WorkspaceAgentScriptCompletedRequest{Timing: t})
		cancel()
		if drop, err := refused(ctx, err); err != nil {
			return fmt.Errorf("report script timing: %w", err)
		} else if drop {
			q.tally.Drop(stats.DropScriptTimings, 1)
		}
		q.queue.pop()
	}
}
