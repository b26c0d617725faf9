package reportclient

import (
	"context"
	"sync"
)

// queue is a bounded first-in first-out queue that outlives sessions. The head
// stays until it was delivered.
type queue[T any] struct {
	mu    sync.Mutex
	items []T
	limit int
	// changed is closed and replaced whenever the queue changes.
	changed chan struct{}
}

func newQueue[T any](limit int) *queue[T] {
	return &queue[T]{limit: limit, changed: make(chan struct{})}
}

// put adds an item and says whether there was room.
func (q *queue[T]) put(item T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) >= q.limit {
		return false
	}
	q.items = append(q.items, item)
	q.signalLocked()
	return true
}

func (q *queue[T]) signalLocked() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// head waits for the first item and leaves it in the queue.
func (q *queue[T]) head(ctx context.Context) (item T, err error) {
	for {
		q.mu.Lock()
		changed := q.changed
		if len(q.items) > 0 {
			item = q.items[0]
			q.mu.Unlock()
			return item, nil
		}
		q.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return item, ctx.Err()
		}
	}
}

// pop removes the head. Only the one sender of a queue calls it.
func (q *queue[T]) pop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) > 0 {
		var zero T
		q.items[0] = zero
		q.items = q.items[1:]
		q.signalLocked()
	}
}

// drained waits until the queue is empty.
func (q *queue[T]) drained(ctx context.Context) error {
	for {
		q.mu.Lock()
		changed, left := q.changed, len(q.items)
		q.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
