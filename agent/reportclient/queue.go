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
	// wake is poked when there is something to send.
	wake signal
	// changed is closed and replaced whenever the queue gets shorter.
	changed chan struct{}
}

func newQueue[T any](limit int, wake signal) *queue[T] {
	return &queue[T]{limit: limit, wake: wake, changed: make(chan struct{})}
}

// signal wakes the one who waits for it; it holds one poke.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) poke() {
	select {
	case s <- struct{}{}:
	default: // it is awake
	}
}

// put adds an item and says whether there was room.
func (q *queue[T]) put(item T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) >= q.limit {
		return false
	}
	q.items = append(q.items, item)
	q.wake.poke()
	return true
}

// head returns the first item and leaves it in the queue.
func (q *queue[T]) head() (item T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return item, false
	}
	return q.items[0], true
}

// pop removes the head. Only the one sender of a queue calls it.
func (q *queue[T]) pop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) > 0 {
		var zero T
		q.items[0] = zero
		q.items = q.items[1:]
		close(q.changed)
		q.changed = make(chan struct{})
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
