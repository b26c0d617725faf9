// Package retry paces repeated attempts and keeps their log quiet.
package retry

import (
	"context"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Backoff yields growing, jittered delays. It belongs to one goroutine.
type Backoff struct {
	b *backoff.ExponentialBackOff
}

// New returns a backoff from min to max. It never gives up.
func New(min, max time.Duration) *Backoff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = min, max, 2, 0.5
	b.Reset()
	return &Backoff{b: b}
}

// Wait sleeps for the next delay. It returns the context's error if that ends
// first.
func (b *Backoff) Wait(ctx context.Context) error { return Sleep(ctx, b.b.NextBackOff()) }

// Reset starts over with the smallest delay; call it after a success.
func (b *Backoff) Reset() { b.b.Reset() }

// Sleep waits for d or the end of the context, whose error it then returns.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// logEvery is how often a lasting failure is logged.
const logEvery = time.Minute

// Log reports a failing operation: the first failure, then at most one line a
// minute with the number of attempts, then the recovery. It belongs to one
// goroutine.
type Log struct {
	log      *slog.Logger
	what     string
	failures int
	last     time.Time
}

// NewLog returns a Log for the operation named what.
func NewLog(log *slog.Logger, what string) *Log { return &Log{log: log, what: what} }

// Failed notes a failure.
func (l *Log) Failed(err error) {
	l.failures++
	if l.failures > 1 && time.Since(l.last) < logEvery {
		return
	}
	l.last = time.Now()
	l.log.Warn(l.what+" failed", "err", err, "attempts", l.failures)
}

// Succeeded notes a success.
func (l *Log) Succeeded() {
	if l.failures > 0 {
		l.log.Info(l.what+" recovered", "attempts", l.failures)
	}
	l.failures = 0
}
