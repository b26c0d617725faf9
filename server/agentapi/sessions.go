package agentapi

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
)

// kind tells what an open request of an agent is.
type kind uint8

const (
	// monitored sessions stand for the agent's being there.
	monitored kind = iota
	// helper sessions do not.
	helper
	// waiting is a request to be told when to start over.
	waiting
	// asking is a request to be told when the owner has linked an account.
	asking
)

// maxPerKind bounds the open requests of one kind of one agent; the oldest ends
// when there is one more.
const maxPerKind = 16

// sessions knows the open requests of each agent and which session is the newest.
type sessions struct {
	mu     sync.Mutex
	closed bool
	last   uint64
	agents map[uuid.UUID]*agentSessions
	wg     sync.WaitGroup
}

// agentSessions is what one agent has open. sessions.mu guards open.
type agentSessions struct {
	open map[uint64]*openSession
	// turn holds one value while a report is stored and shown, so that the
	// reports of an agent are shown in the order in which they were committed.
	turn chan struct{}
}

// openSession is one open request.
type openSession struct {
	agent  uuid.UUID
	number uint64
	kind   kind
	end    context.CancelCauseFunc
	of     *agentSessions
	token  string      // with which it was opened
	shown  shownAs     // zero if nothing is shown of it. sessions.mu guards it
	timer  *time.Timer // ends it with its token; nil if that does not end. sessions.mu guards it
	// evicted: it had to go for another one, and takes no place while it does.
	// sessions.mu guards it.
	evicted bool
}

func newSessions() *sessions { return &sessions{agents: make(map[uuid.UUID]*agentSessions)} }

// add enters a request. evicted says that an older one had to end for it; ok is
// false when the server is stopping.
func (s *sessions) add(agent uuid.UUID, k kind, token string, end context.CancelCauseFunc) (o *openSession, evicted, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, false
	}
	of := s.agents[agent]
	if of == nil {
		of = &agentSessions{open: make(map[uint64]*openSession), turn: make(chan struct{}, 1)}
		s.agents[agent] = of
	}
	s.last++
	o = &openSession{agent: agent, number: s.last, kind: k, end: end, of: of, token: token}
	if oldest, n := of.oldest(k); n >= maxPerKind {
		oldest.end(errTooMany)
		oldest.evicted, evicted = true, true
	}
	of.open[o.number] = o
	s.wg.Add(1)
	return o, evicted, true
}

// oldest returns the oldest request of a kind, and how many there are.
func (a *agentSessions) oldest(k kind) (oldest *openSession, n int) {
	for _, o := range a.open {
		if o.kind != k || o.evicted {
			continue
		}
		if n++; oldest == nil || o.number < oldest.number {
			oldest = o
		}
	}
	return oldest, n
}

// remove takes a request out; its calls have ended.
func (s *sessions) remove(o *openSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wg.Done()
	if o.timer != nil {
		o.timer.Stop()
	}
	delete(o.of.open, o.number)
	if len(o.of.open) == 0 {
		delete(s.agents, o.agent)
	}
}

// isNewest says whether this is the newest of the agent's monitored sessions.
func (s *sessions) isNewest(o *openSession) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.kind != monitored {
		return false
	}
	for _, other := range o.of.open {
		if other.kind == monitored && other.number > o.number {
			return false
		}
	}
	return true
}

func (s *sessions) connected(agent uuid.UUID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if of := s.agents[agent]; of != nil {
		_, n := of.oldest(monitored)
		return n > 0
	}
	return false
}

// monitored returns the agents that have a monitored session.
func (s *sessions) monitored() (agents []uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, of := range s.agents {
		if _, n := of.oldest(monitored); n > 0 {
			agents = append(agents, id)
		}
	}
	return agents
}

func (s *sessions) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, of := range s.agents {
		for _, o := range of.open {
			if o.kind == monitored || o.kind == helper {
				n++
			}
		}
	}
	return n
}

func (s *sessions) drop(agent uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if of := s.agents[agent]; of != nil {
		for _, o := range of.open {
			o.end(errDropped)
		}
	}
}

// close ends everything and waits for it.
func (s *sessions) close() {
	s.mu.Lock()
	s.closed = true
	for _, of := range s.agents {
		for _, o := range of.open {
			o.end(errServerStop)
		}
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// takeTurn waits until no other report of the agent is being stored, or no other
// hello answered.
func (o *openSession) takeTurn(ctx context.Context) (done func(), err error) {
	select {
	case o.of.turn <- struct{}{}:
		return func() { <-o.of.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
