package coordinator

import (
	"sync"

	"github.com/worktally/worktally/exposition"
)

// Why something that a peer asked for was not done.
const (
	reasonUnauthorized = "unauthorized"
	reasonMalformed    = "malformed"
	reasonNoTunnel     = "no_tunnel"
	reasonQueueFull    = "queue_full"
	reasonTooMany      = "too_many_tunnels"
)

type counts struct {
	mu sync.Mutex
	m  map[string]uint64
}

func newCounts() *counts {
	return &counts{m: map[string]uint64{reasonUnauthorized: 0, reasonMalformed: 0, reasonNoTunnel: 0, reasonQueueFull: 0, reasonTooMany: 0}}
}

func (c *counts) add(reason string) {
	c.mu.Lock()
	c.m[reason]++
	c.mu.Unlock()
}

// Fill adds the coordinator's own family to a row of the server's page.
func (c *Coordinator) Fill(b *exposition.Builder) {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	for reason, n := range c.c.m {
		if err := b.Add("worktally_coordinator_rejected_total", float64(n), exposition.Label{Name: "reason", Value: reason}); err != nil {
			panic("BUG: coordinator: " + err.Error())
		}
	}
}
