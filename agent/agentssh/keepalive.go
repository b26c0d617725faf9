package agentssh

import (
	"context"
	"time"
)

// keepaliveName is OpenSSH's; whoever gets it answers, if only with a refusal.
const keepaliveName = "keepalive@openssh.com"

// maxUnanswered is how many keepalives in a row may stay without an answer.
const maxUnanswered = 3

// watchLife ends the connection when the client is silent for too long.
func (c *connection) watchLife() {
	limit := c.srv.o.MaxTimeout
	if limit >= 3*time.Second {
		c.keepalive(c.ctx, func() error {
			_, _, err := c.sc.SendRequest(keepaliveName, true, nil)
			return err
		}, c.cancel)
		return
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-c.ctx.Done():
	case <-t.C:
		c.cancel(errTimedOut)
	}
}

// keepalive calls send three times within the limit, until ctx ends. When three
// of them in a row got no answer and the client showed no other sign of life,
// dead is called. send blocks until the answer; while one is under way it stands
// for those that would follow, since a client that leaves the first unanswered
// would answer none behind it.
func (c *connection) keepalive(ctx context.Context, send func() error, dead func(error)) {
	tick := time.NewTicker(c.srv.o.MaxTimeout / maxUnanswered)
	defer tick.Stop()
	answers := make(chan error, 1)
	heard, unanswered, waiting := c.heard.Load(), 0, false
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-answers:
			if err != nil {
				return // closed
			}
			waiting, unanswered = false, 0
			c.heard.Add(1)
		case <-tick.C:
			if now := c.heard.Load(); now != heard {
				heard, unanswered = now, 0
			}
			if unanswered == maxUnanswered {
				c.log.Info("client answered no keepalive", "count", unanswered)
				dead(errTimedOut)
				return
			}
			unanswered++
			if !waiting {
				waiting = true
				c.wg.Go(func() { answers <- send() })
			}
		}
	}
}
