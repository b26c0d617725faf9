package webserve

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// Why a connection ended early, as Bounded tells.
const (
	// CutNoRequest: no whole header of a request came in time, or at all.
	CutNoRequest = "no_request"
	// CutNoBody: the rest of a request did not come in time.
	CutNoBody = "no_body"
	// CutNotRead: the answer was not read in time.
	CutNotRead = "not_read"
	// CutFull: too many connections waited for their peers, and it was the oldest.
	CutFull = "full"
	// CutNotAccepted: the system had no descriptor for it.
	CutNotAccepted = "not_accepted"
)

// maxWaiting bounds the connections that wait; so many take about 100 MB.
const maxWaiting = 8192

// Bound is what a server and its listener are given before they serve.
type Bound func(s *http.Server, l net.Listener) net.Listener

// Bounded bounds the connections that wait for their peers to limit, 0 meaning 8192,
// and how long they wait. onCut is told of those that ended for want of a request, of
// its rest, of a reader, of room or of descriptors, concurrently.
func Bounded(limit int, onCut func(reason string)) Bound {
	if limit <= 0 {
		limit = maxWaiting
	}
	return func(s *http.Server, l net.Listener) net.Listener {
		newWaiting(limit, onCut).attach(s)
		return CountFailures(l, func() { onCut(CutNotAccepted) })
	}
}

// waiting are the connections on which it is the peer's turn: new ones whose header is
// not there yet, those whose request is not there to its end, those whose answer is
// not sent to its end although the handler is done, and idle ones. When there are too
// many the oldest is closed, so that whoever opens connections and says or reads
// nothing keeps nobody out.
type waiting struct {
	limit        int
	body, answer time.Duration // bodyTimeout and answerTimeout, but in tests
	onCut        func(reason string)
	mu           sync.Mutex // guards what follows
	order        *list.List // of net.Conn, the oldest first
	known        map[net.Conn]*entry
}

// entry is a connection until it is closed or handed over.
type entry struct {
	place   *list.Element // nil while it does not wait
	fresh   bool          // it never had a request
	serving int           // requests whose handlers run
	// by is when the peer must have done its part, zero if that is not bounded here;
	// reason is what it is when it did not.
	by     time.Time
	reason string
}

func newWaiting(limit int, onCut func(string)) *waiting {
	return &waiting{
		limit: limit, body: bodyTimeout, answer: answerTimeout, onCut: onCut,
		order: list.New(), known: make(map[net.Conn]*entry),
	}
}

// attach has a server tell of its connections.
func (w *waiting) attach(s *http.Server) {
	s.ConnState = w.changed
	s.ConnContext = func(ctx context.Context, nc net.Conn) context.Context { return context.WithValue(ctx, connKey{}, nc) }
	// With HTTP/2 nobody can tell whether the last of an answer is read.
	s.HTTP2 = &http.HTTP2Config{WriteByteTimeout: w.answer}
	next := s.Handler
	s.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if nc, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			w.serve(nc, next, rw, r)
			return
		}
		next.ServeHTTP(rw, r)
	})
}

type connKey struct{}

// changed is called by the server. Active means only that some bytes have come.
func (w *waiting) changed(nc net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew, http.StateIdle:
		w.evict(w.add(nc, state == http.StateNew))
	case http.StateHijacked:
		w.forget(nc)
	case http.StateClosed:
		if reason := w.forget(nc); reason != "" {
			w.onCut(reason)
		}
	}
}

// evict closes the connection that had to go for another, if there is one.
func (w *waiting) evict(oldest net.Conn) {
	if oldest == nil {
		return
	}
	w.onCut(CutFull)
	go oldest.Close() // TLS says goodbye, which may take a few seconds
}

// add enters a connection that is new or idle and returns the one that has to go for
// it, or nil.
func (w *waiting) add(nc net.Conn, fresh bool) (oldest net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.known[nc]
	if e == nil {
		if !fresh {
			return nil // it was evicted, and is about to be closed
		}
		e = &entry{fresh: true}
		w.known[nc] = e
	}
	e.by = time.Time{}
	return w.queueLocked(nc, e)
}

// queueLocked makes a connection the newest of those that wait, if it does not wait
// already.
func (w *waiting) queueLocked(nc net.Conn, e *entry) (oldest net.Conn) {
	if e.place != nil {
		return nil
	}
	if w.order.Len() >= w.limit {
		oldest = w.order.Remove(w.order.Front()).(net.Conn)
		delete(w.known, oldest)
	}
	e.place = w.order.PushBack(nc)
	return oldest
}

// unqueueLocked says that it is not the peer's turn.
func (w *waiting) unqueueLocked(e *entry) {
	if e.place != nil {
		w.order.Remove(e.place)
		e.place = nil
	}
	e.by = time.Time{}
}

// forget takes a connection out that is closed, and says which bound has ended it, ""
// for none.
func (w *waiting) forget(nc net.Conn) (reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, known := w.known[nc]
	if !known {
		return ""
	}
	switch {
	case e.fresh:
		reason = CutNoRequest
	case !e.by.IsZero() && !time.Now().Before(e.by):
		reason = e.reason
	}
	w.unqueueLocked(e)
	delete(w.known, nc)
	return reason
}
