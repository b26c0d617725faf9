package coordinator

import (
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire/tailnetpb"
)

// endGrace is how long peers whose right has ended may take to read that their
// partners are gone.
const endGrace = 500 * time.Millisecond

// End ends the streams and the sessions of peers that have lost the right to them.
// They and their partners forget each other at once. A peer that reads is told
// before its session ends, as long as that does not take long: if it were cut off
// instead, it would take its partners for lost, and keep those that it can reach
// without the coordinator.
func (c *Coordinator) End(ids ...uuid.UUID) {
	var ended []*peer
	c.mu.Lock()
	for _, id := range ids {
		if p := c.peers[id]; p != nil {
			c.partLocked(p)
			ended = append(ended, p)
		}
	}
	c.mu.Unlock()
	late := time.NewTimer(c.grace)
	defer late.Stop()
	for _, p := range ended {
		select {
		case <-p.done:
		case <-late.C:
			late.Reset(0) // for all of them
		}
	}
	for _, p := range ended {
		p.end(errEnded)
	}
}

// partLocked lets a peer and its partners forget each other.
func (c *Coordinator) partLocked(p *peer) {
	const kind, reason = tailnetpb.CoordinateResponse_PeerUpdate_DISCONNECTED, "no longer allowed"
	p.ending = true
	for about := range p.sent {
		c.forgetLocked(p, about, kind, reason)
	}
	c.leaveLocked(p, kind, reason, "")
}
