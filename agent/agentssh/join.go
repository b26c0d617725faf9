package agentssh

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/stats"
)

// lastWrites is how long a target may take to accept what a client had sent
// before it closed its channel.
const lastWrites = 10 * time.Second

// join copies between a channel and a socket until both directions have ended,
// each of which may end on its own, and closes both. It returns how it ended: in
// order, or because the client closed while the target still had the floor.
func (c *connection) join(ch ssh.Channel, requests <-chan *ssh.Request, nc net.Conn) stats.EndReason {
	defer nc.Close()
	var targetEnded, abandoned atomic.Bool
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for r := range requests {
			c.heard.Add(1)
			reply(r, false, nil)
		}
		if !targetEnded.Load() {
			abandoned.Store(true)
		}
		// What has arrived is still delivered; nothing more is fetched.
		_ = nc.SetReadDeadline(time.Unix(1, 0))
		_ = nc.SetWriteDeadline(time.Now().Add(lastWrites))
	})
	var copies sync.WaitGroup
	copies.Go(func() {
		if err := c.srv.copy(nc, ch, nil); err != nil {
			c.log.Debug("forward to the workspace", "err", err)
		}
		closeWrite(nc)
	})
	copies.Go(func() {
		if err := c.srv.copy(ch, nc, nil); err != nil {
			c.log.Debug("forward from the workspace", "err", err)
		}
		targetEnded.Store(true)
		_ = ch.CloseWrite()
	})
	copies.Wait()
	nc.Close()
	_ = ch.Close()
	watcher.Wait()
	if abandoned.Load() {
		if c.ctx.Err() != nil {
			return endReason(context.Cause(c.ctx))
		}
		return stats.EndDisconnected
	}
	return stats.EndExited
}

// closeWrite ends one direction of a socket.
func closeWrite(nc net.Conn) {
	if w, ok := nc.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite() // a socket that is gone has no direction left
	}
}
