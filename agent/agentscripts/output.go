package agentscripts

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// output takes the lines of one run, of both streams, to the log file and to the
// sink. It is safe for concurrent use.
type output struct {
	emit func(level slog.Level, text string)
	// fileFailed is told the first error of the file, which then gets no more.
	fileFailed func(error)
	maxLine    int

	// mu guards the fields below and keeps lines whole. emit is called under it;
	// it must not block and not call back.
	mu     sync.Mutex
	file   io.Writer // nil: none, or given up
	budget *budget
	// dropped counts the lines that were over the budget.
	dropped int
}

// budget is a token bucket in bytes. It belongs to a script and not to a run, or one
// that is run every second would have a full one every second. It is safe for
// concurrent use.
type budget struct {
	rate, burst int64

	mu     sync.Mutex // guards the fields below
	left   int64
	filled time.Time
}

func newBudget(rate, burst int64) *budget {
	return &budget{rate: rate, burst: burst, left: burst, filled: time.Now()}
}

// take takes n bytes if they are there.
func (b *budget) take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if gained := int64(now.Sub(b.filled).Seconds() * float64(b.rate)); gained > 0 {
		b.left = min(b.burst, b.left+gained)
		b.filled = now
	}
	if int64(n) > b.left {
		return false
	}
	b.left -= int64(n)
	return true
}

// line takes one line with its end, which the file gets as it is.
func (o *output) line(level slog.Level, raw []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.budget.take(len(raw)) {
		if o.dropped == 0 {
			o.writeLocked(slog.LevelError, []byte("output exceeds what is kept: lines are dropped until it slows down\n"))
		}
		o.dropped++
		return
	}
	o.writeLocked(level, raw)
}

// say adds a line of ours.
func (o *output) say(level slog.Level, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writeLocked(level, []byte(text+"\n"))
}

func (o *output) writeLocked(level slog.Level, raw []byte) {
	if o.file != nil {
		if _, err := o.file.Write(raw); err != nil {
			o.file = nil
			o.fileFailed(err)
			o.emit(slog.LevelError, "the log file gets no more lines: "+err.Error())
		}
	}
	text := strings.TrimSuffix(string(raw), "\n")
	o.emit(level, strings.TrimSuffix(text, "\r"))
}

// stream cuts one output stream of a process into lines. A line longer than the
// bound is continued as the next line. Each stream has one writer.
type stream struct {
	out   *output
	level slog.Level
	rest  []byte
}

func (s *stream) Write(p []byte) (int, error) {
	n := len(p)
	for {
		end := bytes.IndexByte(p, '\n') + 1
		if end == 0 {
			break
		}
		if len(s.rest) == 0 && end <= s.out.maxLine {
			s.out.line(s.level, p[:end])
		} else {
			s.add(p[:end])
			s.flush()
		}
		p = p[end:]
	}
	s.add(p)
	return n, nil
}

// add keeps p for later; whole pieces of the longest length leave at once.
func (s *stream) add(p []byte) {
	for len(s.rest)+len(p) > s.out.maxLine {
		take := s.out.maxLine - len(s.rest)
		s.rest = append(s.rest, p[:take]...)
		p = p[take:]
		cut := runeBoundary(s.rest)
		s.out.line(s.level, s.rest[:cut])
		s.rest = append(s.rest[:0], s.rest[cut:]...)
	}
	s.rest = append(s.rest, p...)
}

// flush passes on what has no line end.
func (s *stream) flush() {
	if len(s.rest) > 0 {
		s.out.line(s.level, s.rest)
		s.rest = s.rest[:0]
	}
}

// runeBoundary returns the length of p without a rune that is cut at its end.
func runeBoundary(p []byte) int {
	for i := len(p) - 1; i >= max(1, len(p)-utf8.UTFMax+1); i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				return i
			}
			break
		}
	}
	return len(p)
}
