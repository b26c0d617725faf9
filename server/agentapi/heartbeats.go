package agentapi

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/retry"
)

// heartbeats writes the liveness of all agents in one statement a second, and
// the disconnects with it, so that thousands of agents are no load.
type heartbeats struct {
	catalog Catalog
	log     *slog.Logger

	mu    sync.Mutex
	alive map[uuid.UUID]struct{}
	gone  map[uuid.UUID]struct{}
}

const heartbeatFlush = time.Second

func newHeartbeats(c Catalog, log *slog.Logger) *heartbeats {
	return &heartbeats{catalog: c, log: log, alive: make(map[uuid.UUID]struct{}), gone: make(map[uuid.UUID]struct{})}
}

func (h *heartbeats) beat(agent uuid.UUID) {
	h.mu.Lock()
	h.alive[agent] = struct{}{}
	delete(h.gone, agent)
	h.mu.Unlock()
}

func (h *heartbeats) ended(agent uuid.UUID) {
	h.mu.Lock()
	h.gone[agent] = struct{}{}
	delete(h.alive, agent)
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

func (h *heartbeats) flush(ctx context.Context) error {
	h.mu.Lock()
	alive, gone := keys(h.alive), keys(h.gone)
	clear(h.alive)
	clear(h.gone)
	h.mu.Unlock()
	now := time.Now()
	if len(alive) > 0 {
		if err := h.catalog.Heartbeat(ctx, alive, now); err != nil {
			h.restore(alive, gone)
			return err
		}
	}
	if len(gone) > 0 {
		if err := h.catalog.SetDisconnected(ctx, gone, now); err != nil {
			h.restore(nil, gone)
			return err
		}
	}
	return nil
}

// restore puts back what could not be written, unless something newer is known.
func (h *heartbeats) restore(alive, gone []uuid.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range gone {
		if _, newer := h.alive[id]; !newer {
			h.gone[id] = struct{}{}
		}
	}
	for _, id := range alive {
		if _, newer := h.gone[id]; !newer {
			h.alive[id] = struct{}{}
		}
	}
}

func keys(m map[uuid.UUID]struct{}) []uuid.UUID {
	ids := make([]uuid.UUID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	return ids
}
