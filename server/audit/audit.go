// Package audit writes down who connected, from where and to what, and who changed
// what, as JSON lines in a file of its own.
//
// Nothing ever waits for the file: events stand in a bounded queue that one goroutine
// writes, and what finds no place or cannot be written is counted and gone.
package audit

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/worktally/worktally/internal/ratelimit"
	"github.com/worktally/worktally/internal/retry"
	"github.com/worktally/worktally/internal/rotate"
)

// The rotation of the file, and the bound of the queue.
const (
	fileLimit   = 16 << 20
	fileBackups = 10
	queueLimit  = 4096
)

// How many lines each source may fill of what others can bring about as often as they
// like, and would rotate away within minutes what was written before. At one a second a
// source fills the files in two weeks.
const (
	sourceBurst = 1000
	sourceEvery = time.Second
	maxSources  = 8192
)

// lastWords bounds how long the end waits for the file.
const lastWords = 5 * time.Second

// Options of a Log.
type Options struct {
	// Path is the file; "" writes none, and events are only counted.
	Path string
	// Registerer receives the counters. Nil keeps them private.
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// Log is the audit log. A nil Log takes events and forgets them.
type Log struct {
	o       Options
	log     *slog.Logger
	queue   chan Event
	file    io.WriteCloser // belongs to write; nil if it must be opened
	torn    bool           // the file ends within a line
	events  *prometheus.CounterVec
	dropped prometheus.Counter

	mu      sync.Mutex // guards sources
	sources *ratelimit.Buckets[source]
}

// Open makes sure that the file (0600) can be opened. A Log that is not run writes
// nothing.
func Open(o Options) (*Log, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	with := promauto.With(o.Registerer)
	l := &Log{
		o: o, log: o.Log, queue: make(chan Event, queueLimit),
		sources: ratelimit.New[source](sourceBurst, sourceEvery, maxSources),
		events: with.NewCounterVec(prometheus.CounterOpts{
			Name: "worktally_audit_events_total",
			Help: "Events for the audit log, written or not, by event.",
		}, []string{"event"}),
		dropped: with.NewCounter(prometheus.CounterOpts{
			Name: "worktally_audit_dropped_total",
			Help: "Events that are missing in the audit log because its queue was full, its file could not be written, or its source had brought about too many.",
		}),
	}
	for _, name := range events() {
		l.events.WithLabelValues(name)
	}
	if o.Path == "" {
		return l, nil
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	err := l.file.Close()
	l.file = nil // who writes it opens it
	return l, err
}

func (l *Log) open() error {
	f, err := rotate.Open(l.o.Path, fileLimit, fileBackups)
	if err == nil {
		l.file = f
	}
	return err
}

// Record takes an event; its time is now. It never blocks, and is safe for concurrent
// use.
func (l *Log) Record(e Event) {
	if l == nil {
		return
	}
	l.events.WithLabelValues(e.Name).Inc()
	if l.o.Path == "" {
		return
	}
	if !l.hasRoom(e) {
		l.dropped.Inc()
		return
	}
	e.Time = time.Now().UTC()
	select {
	case l.queue <- e.bounded():
	default:
		l.dropped.Inc()
	}
}

// hasRoom says whether the event's source may fill another line.
func (l *Log) hasRoom(e Event) bool {
	from, bounded := e.source()
	if !bounded {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sources.Take(from)
}

// Run writes events until the context ends, and then those that are left. A file that
// does not take them in time is left alone with them.
func (l *Log) Run(ctx context.Context) error {
	if l.o.Path == "" {
		<-ctx.Done()
		return nil
	}
	done := make(chan struct{})
	go func() { // a write to a disk that hangs cannot be ended
		defer close(done)
		l.write(ctx)
	}()
	<-ctx.Done()
	late := time.NewTimer(lastWords)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		l.log.Error("the audit log does not take its last events", "path", l.o.Path)
	}
	return nil
}

func (l *Log) write(ctx context.Context) {
	quiet := retry.NewLog(l.log, "write the audit log")
	put := func(e Event) {
		if err := l.put(e); err != nil {
			l.dropped.Inc()
			quiet.Failed(err)
			return
		}
		quiet.Succeeded()
	}
	for ctx.Err() == nil {
		select {
		case e := <-l.queue:
			put(e)
		case <-ctx.Done():
		}
	}
	for {
		select {
		case e := <-l.queue:
			put(e)
		default:
			if l.file != nil {
				_ = l.file.Close()
			}
			return
		}
	}
}

// put writes a line. After a failure the file is opened again, and what was written
// of a line is ended, so that the next one can be read.
func (l *Log) put(e Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if l.file == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	line = append(line, '\n')
	if l.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := l.file.Write(line)
	if err == nil {
		l.torn = false
		return nil
	}
	l.torn = l.torn || n > 0
	_ = l.file.Close()
	l.file = nil
	return err
}
