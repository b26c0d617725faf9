package reportclient

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/wire/agentpb"
)

// The limits of logs (contract agent-api.md section 6.4).
const (
	maxLogBytes   = 1 << 20 // queued over all sources, so in one batch and one line too
	logOverhead   = 21
	logFlushAfter = time.Second
	invalidText   = "\u274C"
)

// LogLine is one line of output of a script.
type LogLine struct {
	Time  time.Time
	Level agentpb.Log_Level
	Text  string
}

// logQueue holds the lines that the server has not taken yet, by source.
type logQueue struct {
	tally *stats.Tally
	wake  signal

	// mu guards everything below.
	mu      sync.Mutex
	sources []*logSource
	bytes   int
	// full: the server takes no more in the life of this process.
	full    bool
	changed chan struct{}
}

type logSource struct {
	id      uuid.UUID
	lines   []*agentpb.Log
	flushed time.Time
	urgent  bool
}

func newLogQueue(t *stats.Tally, wake signal) *logQueue {
	return &logQueue{tally: t, wake: wake, changed: make(chan struct{})}
}

// Log queues a line; it never blocks. Lines beyond 1 MiB of waiting output are
// dropped and counted.
func (c *Client) Log(source uuid.UUID, line LogLine) {
	q := c.logs
	text := strings.ToValidUTF8(line.Text, invalidText)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.full || q.bytes+logSize(text) > maxLogBytes {
		q.tally.Drop(stats.DropLogLines, 1)
		return
	}
	q.bytes += logSize(text)
	s := q.sourceLocked(source)
	s.lines = append(s.lines, &agentpb.Log{CreatedAt: timestamppb.New(line.Time), Output: text, Level: line.Level})
	if len(s.lines) == 1 {
		q.wake.poke()
	}
}

// logSize is what a line counts for, wherever it is bounded.
func logSize(text string) int { return len(text) + logOverhead }

// LogsSent waits until no line is waiting.
func (c *Client) LogsSent(ctx context.Context) error {
	q := c.logs
	for {
		q.mu.Lock()
		left, changed := q.bytes, q.changed
		for _, s := range q.sources {
			s.urgent = true
		}
		q.mu.Unlock()
		q.wake.poke()
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

// sourceLocked finds a source. Their number is bounded by the manifest's scripts.
func (q *logQueue) sourceLocked(id uuid.UUID) *logSource {
	for _, s := range q.sources {
		if s.id == id {
			return s
		}
	}
	s := &logSource{id: id, flushed: time.Now()}
	q.sources = append(q.sources, s)
	return s
}

// batch returns the lines of the source that waits longest, if they are due, or
// when they will be.
func (q *logQueue) batch(now time.Time) (s *logSource, lines []*agentpb.Log, due time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, o := range q.sources {
		at := o.flushed.Add(logFlushAfter)
		if o.urgent {
			at = o.flushed
		}
		if len(o.lines) > 0 && (s == nil || at.Before(due)) {
			s, due = o, at
		}
	}
	if s == nil || now.Before(due) {
		return nil, nil, due
	}
	// All that may wait fits into one batch.
	return s, slices.Clip(s.lines), due
}

func (q *logQueue) sent(s *logSource, lines []*agentpb.Log, full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range lines {
		q.bytes -= logSize(l.GetOutput())
	}
	s.lines = s.lines[len(lines):]
	s.flushed = time.Now()
	s.urgent = s.urgent && len(s.lines) > 0
	if full {
		q.full = true
		for _, s := range q.sources {
			q.tally.Drop(stats.DropLogLines, len(s.lines))
			s.lines = nil
		}
		q.bytes = 0
	}
	close(q.changed)
	q.changed = make(chan struct{})
}

// next is a sender's.
func (q *logQueue) next(ctx context.Context, api agentpb.DRPCAgentClient) (sent bool, due time.Time, err error) {
	source, lines, due := q.batch(time.Now())
	if source == nil {
		return false, due, nil
	}
	resp, err := api.BatchCreateLogs(ctx, &agentpb.BatchCreateLogsRequest{LogSourceId: source.id[:], Logs: lines})
	if err != nil {
		return false, time.Time{}, err
	}
	q.sent(source, lines, resp.GetLogLimitExceeded())
	return true, time.Time{}, nil
}
