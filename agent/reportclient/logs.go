package reportclient

import (
	"context"
	"fmt"
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
	logCheckEvery = 250 * time.Millisecond
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

func newLogQueue(t *stats.Tally) *logQueue { return &logQueue{tally: t, changed: make(chan struct{})} }

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

// dueLocked returns the source that waits longest, if one is due.
func (q *logQueue) dueLocked(now time.Time) *logSource {
	var due *logSource
	for _, s := range q.sources {
		if len(s.lines) == 0 || !s.urgent && now.Sub(s.flushed) < logFlushAfter {
			continue
		}
		if due == nil || s.flushed.Before(due.flushed) {
			due = s
		}
	}
	return due
}

// batch returns the next lines to send and their source.
func (q *logQueue) batch(now time.Time) (*logSource, []*agentpb.Log) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.dueLocked(now)
	if s == nil {
		return nil, nil
	}
	// All that may wait fits into one batch.
	return s, slices.Clip(s.lines)
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

func (q *logQueue) send(ctx context.Context, api agentpb.DRPCAgentClient) error {
	tick := time.NewTicker(logCheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		for {
			source, lines := q.batch(time.Now())
			if source == nil {
				break
			}
			callCtx, cancel := context.WithTimeout(ctx, callTimeout)
			resp, err := api.BatchCreateLogs(callCtx, &agentpb.BatchCreateLogsRequest{LogSourceId: source.id[:], Logs: lines})
			cancel()
			if err != nil {
				return fmt.Errorf("send logs: %w", err)
			}
			q.sent(source, lines, resp.GetLogLimitExceeded())
		}
	}
}
