package agentpty

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/agent/stats"
)

var (
	errClosing  = errors.New("server shutting down")
	errTooMany  = errors.New("too many terminals")
	errNotThere = errors.New("terminal has ended")
)

// backend keeps what runs in a terminal while nobody looks.
type backend interface {
	// attach returns the process that a new connection shows.
	attach(ctx context.Context, h hello) (*process, error)
	// detach says that a connection does not show it any more.
	detach(*process)
	// gone is closed when there is nothing left to attach to; nil means never.
	gone() <-chan struct{}
	// close ends everything and waits for it.
	close()
}

// terminal is what an ID names. It ends when nobody was attached for a while,
// when its backend is gone, or with the Server.
type terminal struct {
	id   uuid.UUID
	back backend
	// idle fires when nobody was attached for the timeout.
	idle    *time.Timer
	timeout time.Duration

	// mu guards the fields below.
	mu       sync.Mutex
	attached int
	// used says that somebody saw it; a terminal that nobody could be attached to
	// is not kept.
	used, ended bool
}

// terminal returns the terminal that h names, a new one if there is none.
func (s *Server) terminal(h hello) (*terminal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, errClosing
	}
	if t := s.terminals[h.ID]; t != nil {
		return t, nil
	}
	if len(s.terminals) >= s.o.MaxTerminals {
		s.o.Tally.Drop(stats.DropTerminals, 1)
		return nil, fmt.Errorf("%w: %d are open", errTooMany, s.o.MaxTerminals)
	}
	back, err := s.newBackend(h)
	if err != nil {
		return nil, err
	}
	t := &terminal{id: h.ID, back: back, timeout: s.o.Timeout, idle: time.NewTimer(s.o.Timeout)}
	s.terminals[h.ID] = t
	s.work.Go(func() { s.keep(t) })
	return t, nil
}

// keep waits for the end of the terminal and clears up after it.
func (s *Server) keep(t *terminal) {
	defer t.idle.Stop()
	reason := "process ended"
	for over := false; !over; {
		select {
		case <-t.idle.C:
			over, reason = t.expire(), "nobody attached"
		case <-t.back.gone():
			over = true
		case <-s.life.Done():
			over, reason = true, "shutdown"
		}
	}
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	s.forget(t)
	t.back.close()
	s.log.Info("terminal ended", "terminal_id", t.id, "reason", reason)
}

// forget frees the ID of an ended terminal.
func (s *Server) forget(t *terminal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminals[t.id] == t {
		delete(s.terminals, t.id)
	}
}

// expire ends a terminal that nobody is attached to.
func (t *terminal) expire() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = t.ended || t.attached == 0
	return t.ended
}

// enter counts somebody in; the idle time stops.
func (t *terminal) enter() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return errNotThere
	}
	t.attached++
	t.idle.Stop()
	return nil
}

// saw says that somebody was attached indeed.
func (t *terminal) saw() {
	t.mu.Lock()
	t.used = true
	t.mu.Unlock()
}

// leave counts somebody out; the idle time begins when it was the last.
func (t *terminal) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attached--
	switch {
	case t.attached > 0 || t.ended:
	case t.used:
		t.idle.Reset(t.timeout)
	default:
		t.idle.Reset(0)
	}
}
