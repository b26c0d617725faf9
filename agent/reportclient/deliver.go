package reportclient

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

// sender sends what waits in one queue.
type sender struct {
	name string
	// next makes the next call if it is due: sent says that it did, due when it will
	// be, zero if that takes a wake.
	next func(context.Context, agentpb.DRPCAgentClient) (sent bool, due time.Time, err error)
	// drop gives up what the server refused. Without it an error ends the session,
	// or the sender if the server does not serve the call.
	drop func()
}

// delivery tells the server, one call at a time, what the rest of the agent has to
// say. What was not answered stays queued for the next session.
type delivery struct {
	c       *Client
	api     agentpb.DRPCAgentClient
	closed  <-chan struct{}
	senders []sender
}

// deliver works until the context ends (nil) or the session does.
func (c *Client) deliver(ctx context.Context, api agentpb.DRPCAgentClient, closed <-chan struct{}) error {
	d := &delivery{c: c, api: api, closed: closed, senders: []sender{
		{"update lifecycle", c.lifecycle.next, nil},
		{"get announcement banners", c.banners.next, nil},
		{"report script timing", c.timings.next, c.timings.drop},
		{"report connection", c.connections.next, c.connections.drop},
		{"send logs", c.logs.next, nil},
	}}
	c.banners.asked = time.Time{} // another session may have others
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, err := d.sendAll(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			select {
			case <-closed: // which is why
				return io.EOF
			default:
				return err
			}
		case due.IsZero():
			timer.Stop()
		default:
			timer.Reset(time.Until(due))
		}
		select {
		case <-closed:
			return io.EOF
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-timer.C:
		}
	}
}

// sendAll sends, in turns, until nothing is due, and returns when something will
// be.
func (d *delivery) sendAll(ctx context.Context) (due time.Time, err error) {
	for again := true; again; {
		again, due = false, time.Time{}
		for i := 0; i < len(d.senders); i++ {
			s := d.senders[i]
			sent, at, err := d.call(ctx, s)
			switch {
			case wire.IsUnimplemented(err):
				d.c.log.Info("the server does not serve a call", "call", s.name)
				d.senders = append(d.senders[:i], d.senders[i+1:]...)
				i--
			case err != nil:
				return due, fmt.Errorf("%s: %w", s.name, err)
			case sent:
				again = true
			case !at.IsZero() && (due.IsZero() || at.Before(due)):
				due = at
			}
		}
	}
	return due, nil
}

// pause keeps a refused sender from spinning.
const pause = time.Second

// call makes one call. A lost session may look like a refusal for a moment, so it
// is given the time to be noticed.
func (d *delivery) call(ctx context.Context, s sender) (sent bool, due time.Time, err error) {
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	sent, due, err = s.next(callCtx, d.api)
	if err == nil || s.drop == nil || callCtx.Err() != nil {
		// A server that does not answer has refused nothing.
		return sent, due, err
	}
	if !wire.IsUnimplemented(err) {
		select {
		case <-d.closed:
			return false, due, err
		case <-ctx.Done():
			return false, due, err
		case <-time.After(pause):
		}
	}
	s.drop()
	return true, due, nil
}
