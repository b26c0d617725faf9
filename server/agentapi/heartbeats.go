package agentapi

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/retry"
)

// heartbeats writes the liveness of all agents in one statement a second, and
// the disconnects with it, so that thousands of agents are no load.
type heartbeats struct {
	catalog Catalog
	late    *lateWrites
	log     *slog.Logger
	clock   *jumps
	// connected says whether an agent has a session now.
	connected func(uuid.UUID) bool
	// everybody returns the agents that have a session now.
	everybody func() []uuid.UUID
	// changed is called after disconnects were written.
	changed func()

	// mu guards the sets, whose size is bounded by the number of agents.
	mu    sync.Mutex
	alive map[uuid.UUID]struct{}
	gone  map[uuid.UUID]struct{}
}

const heartbeatFlush = time.Second

func (h *heartbeats) beat(agent uuid.UUID) {
	h.mu.Lock()
	h.alive[agent] = struct{}{}
	h.mu.Unlock()
}

func (h *heartbeats) ended(agent uuid.UUID) {
	h.mu.Lock()
	h.gone[agent] = struct{}{}
	h.mu.Unlock()
}

func (h *heartbeats) run(ctx context.Context) {
	quiet := retry.NewLog(h.log, "write heartbeats")
	for stopped := false; !stopped; {
		stopped = retry.Sleep(ctx, heartbeatFlush) != nil
		// The last ones are written although the context has ended.
		flushCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		if err := h.flush(flushCtx); err != nil {
			quiet.Failed(err)
		} else {
			quiet.Succeeded()
		}
		cancel()
	}
}

// flush writes what was noted. What cannot be written is tried again, unless the
// agent has come or gone meanwhile: that is asked at the last moment.
func (h *heartbeats) flush(ctx context.Context) error {
	h.mu.Lock()
	alive, gone := h.alive, h.gone
	h.alive, h.gone = make(map[uuid.UUID]struct{}), make(map[uuid.UUID]struct{})
	h.mu.Unlock()
	now, jumped := h.clock.read()
	if jumped {
		// The heartbeats that were written are not as old as they seem.
		for _, agent := range h.everybody() {
			alive[agent] = struct{}{}
		}
	}
	away := func(id uuid.UUID, _ struct{}) bool { return !h.connected(id) }
	maps.DeleteFunc(gone, func(id uuid.UUID, _ struct{}) bool { return h.connected(id) })
	maps.DeleteFunc(alive, away)
	err := h.late.flush(ctx, h.connected)
	if err == nil {
		err = h.catalog.Heartbeat(ctx, slices.Collect(maps.Keys(alive)), now)
	}
	if err == nil {
		err = h.catalog.SetDisconnected(ctx, slices.Collect(maps.Keys(gone)), now)
	}
	switch {
	case err != nil:
		h.mu.Lock()
		maps.Copy(h.alive, alive)
		maps.Copy(h.gone, gone)
		h.mu.Unlock()
	case len(gone) > 0 || jumped:
		h.changed()
	}
	return err
}
