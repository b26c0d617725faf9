package agentapi

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"storj.io/drpc"
)

// guarded turns a panic in a call into an error of that call: a mistake of ours
// costs one answer, and neither the session nor the process.
type guarded struct {
	drpc.Handler
	c   *counts
	log *slog.Logger
}

var errPanicked = errors.New("internal error of the server; its log tells more")

// HandleRPC implements drpc.Handler.
func (g guarded) HandleRPC(stream drpc.Stream, rpc string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			g.c.add("worktally_agent_rejected_total", "reason", rejectedPanic, 1)
			g.log.Error("a call of an agent panicked", "rpc", rpc, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = errPanicked
		}
	}()
	return g.Handler.HandleRPC(stream, rpc)
}
