package reportclient

import (
	"context"
	"errors"
	"fmt"
)

// FlushReport cuts a window and waits until a server has taken it in. One that a
// server refuses is cut once more, in the epoch that follows the refusal.
func (c *Client) FlushReport(ctx context.Context) error {
	r := c.reporter
	record, err := r.cutWithin(ctx)
	if err != nil {
		return err
	}
	for again := true; ; {
		r.mu.Lock()
		moved, done, changed := r.epoch != record.Epoch, r.delivered >= record.Sequence, r.changed
		r.mu.Unlock()
		switch {
		case moved && again:
			if record, err = r.cutWithin(ctx); err != nil {
				return err
			}
			again = false
			continue
		case moved:
			return errors.New("the server refuses the last report")
		case done:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the last report: %w", ctx.Err())
		}
	}
}

// cutWithin cuts an urgent window. It does not wait longer than ctx for a disk that
// hangs; the window is cut all the same, if the disk goes on.
func (r *reporter) cutWithin(ctx context.Context) (*record, error) {
	done := make(chan *record, 1)
	go func() { done <- r.cutNow(true) }()
	select {
	case record := <-done:
		if record == nil {
			return nil, errors.New("the agent has no manifest yet")
		}
		return record, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("keep the last report: %w", ctx.Err())
	}
}
