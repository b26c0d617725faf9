package controlapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

// maxSessions bounds the long requests of one person: connections, watches and
// logs that are followed.
const maxSessions = 512

// session is a request that lasts.
type session struct {
	user    catalog.User
	token   string    // with which it was opened
	agent   uuid.UUID // zero if it is about a workspace
	peer    uuid.UUID // zero if it is not a peer of the tailnet
	end     context.CancelCauseFunc
	revoked atomic.Bool
	// changed holds one signal: the workspace may have changed.
	changed chan struct{}
}

// sessions knows all requests that last, so that they end with the right to them.
type sessions struct {
	// endPeers ends the streams of peers, their partners being told that they are
	// gone.
	endPeers func(...uuid.UUID)

	mu     sync.Mutex
	closed bool
	open   map[*session]struct{}
	wg     sync.WaitGroup
}

var (
	errStopping        = errors.New("the server is stopping")
	errRevoked         = errors.New("the right to this session has ended")
	errTooManySessions = errors.New("too many open sessions of one person")
)

// begin enters a request that lasts. The context ends with the request, the
// server, or the right to it; done must be called. Who may see what was found out
// before is asked again by check: it may have changed meanwhile. If ok is false
// the request is answered.
func (a *API) begin(w http.ResponseWriter, r *http.Request, s *session, check func() error) (ctx context.Context, done func(), ok bool) {
	ctx, cancel := context.WithCancelCause(r.Context())
	s.token, s.end, s.changed = tokenOf(r), cancel, make(chan struct{}, 1)
	if err := a.sessions.add(s); err != nil {
		cancel(err)
		// On 503 a client tries again for ever, on 409 it gives up.
		status := http.StatusConflict
		if errors.Is(err, errStopping) {
			status = http.StatusServiceUnavailable
		} else {
			a.metrics.sessionsRefused.Inc()
		}
		a.fail(w, status, wire.Error{Message: "The session cannot be opened.", Detail: err.Error()})
		return nil, nil, false
	}
	done = func() {
		cancel(nil)
		a.sessions.remove(s)
	}
	if err := check(); err != nil {
		done()
		a.failErr(w, r, err)
		return nil, nil, false
	}
	return ctx, done, true
}

func (s *sessions) add(n *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errStopping
	}
	mine := 0
	for o := range s.open {
		if o.user.ID == n.user.ID {
			mine++
		}
	}
	if mine >= maxSessions {
		return errTooManySessions
	}
	s.open[n] = struct{}{}
	s.wg.Add(1)
	return nil
}

func (s *sessions) remove(o *session) {
	s.mu.Lock()
	delete(s.open, o)
	s.mu.Unlock()
	s.wg.Done()
}

// revokeUser ends the sessions of a person whose token is no longer valid.
func (s *sessions) revokeUser(username string) {
	s.revoke(func(o *session) bool { return o.user.Username == username })
}

// revokeAgents ends the sessions with agents that are gone.
func (s *sessions) revokeAgents(gone []uuid.UUID) {
	s.revoke(func(o *session) bool { return slices.Contains(gone, o.agent) })
}

func (s *sessions) revoke(match func(*session) bool) {
	found := s.matching(match)
	var peers []uuid.UUID
	for _, o := range found {
		// From here on nothing that the peer asks for is done, so that nobody can
		// be told of it again between the two ends.
		o.revoked.Store(true)
		if o.peer != uuid.Nil {
			peers = append(peers, o.peer)
		}
	}
	if len(peers) > 0 {
		s.endPeers(peers...)
	}
	for _, o := range found {
		o.end(errRevoked)
	}
}

// signal tells the sessions that look at workspaces that one has changed.
func (s *sessions) signal() {
	for _, o := range s.matching(func(o *session) bool { return o.peer == uuid.Nil }) {
		select {
		case o.changed <- struct{}{}:
		default: // it is known already
		}
	}
}

func (s *sessions) matching(match func(*session) bool) []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*session
	for o := range s.open {
		if match(o) {
			found = append(found, o)
		}
	}
	return found
}

// close ends everything and waits for it.
func (s *sessions) close() {
	s.mu.Lock()
	s.closed = true
	for o := range s.open {
		o.end(errStopping)
	}
	s.mu.Unlock()
	s.wg.Wait()
}
