package agentapi

import (
	"context"
	"sync"

	"github.com/google/uuid"
)

// sessions knows the open sessions of each agent and which is the newest.
type sessions struct {
	mu     sync.Mutex
	closed bool
	next   uint64
	open   map[uuid.UUID]map[uint64]context.CancelCauseFunc
	newest map[uuid.UUID]uint64
	wg     sync.WaitGroup
}

func newSessions() *sessions {
	return &sessions{open: make(map[uuid.UUID]map[uint64]context.CancelCauseFunc), newest: make(map[uuid.UUID]uint64)}
}

// add enters a session; ok is false when the server is stopping.
func (s *sessions) add(agent uuid.UUID, cancel context.CancelCauseFunc) (number uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, false
	}
	s.next++
	if s.open[agent] == nil {
		s.open[agent] = make(map[uint64]context.CancelCauseFunc)
	}
	s.open[agent][s.next] = cancel
	s.newest[agent] = s.next
	s.wg.Add(1)
	return s.next, true
}

// remove takes a session out and says whether the agent has none left.
func (s *sessions) remove(agent uuid.UUID, number uint64) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wg.Done()
	delete(s.open[agent], number)
	if len(s.open[agent]) > 0 {
		return false
	}
	delete(s.open, agent)
	delete(s.newest, agent)
	return true
}

func (s *sessions) isNewest(agent uuid.UUID, number uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest[agent] == number
}

func (s *sessions) connected(agent uuid.UUID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open[agent]) > 0
}

func (s *sessions) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, m := range s.open {
		n += len(m)
	}
	return n
}

func (s *sessions) drop(agent uuid.UUID, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cancel := range s.open[agent] {
		cancel(cause)
	}
}

// close ends all sessions and waits for them.
func (s *sessions) close() {
	s.mu.Lock()
	s.closed = true
	for _, m := range s.open {
		for _, cancel := range m {
			cancel(errServerStop)
		}
	}
	s.mu.Unlock()
	s.wg.Wait()
}
