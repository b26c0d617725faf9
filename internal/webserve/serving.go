package webserve

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	// bodyTimeout bounds how long nothing of a request's body may come. The server
	// itself reads what a handler left of it, so that even who is refused could stay.
	bodyTimeout = 30 * time.Second
	// answerTimeout bounds how long the end of an answer may stay unread, after the
	// handler is done, and the answer to an upgrade: as long as a scrape may take.
	answerTimeout = time.Minute
)

// serve has a request served whose header has come on a connection.
func (w *waiting) serve(nc net.Conn, next http.Handler, rw http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(rw)
	pending := r.ContentLength != 0
	w.begin(nc, pending)
	if pending {
		b := &body{ReadCloser: r.Body, w: w, nc: nc, control: control}
		b.more()
		// In a copy, because the server asks its own body what became of it.
		r = r.WithContext(r.Context())
		r.Body = b
	}
	if r.Header.Get("Upgrade") != "" {
		// Earlier answers may be unread. To hand the connection over takes this away.
		_ = control.SetWriteDeadline(time.Now().Add(w.answer))
	}
	defer func() {
		open, oldest := w.end(nc)
		w.evict(oldest)
		if open {
			_ = control.SetWriteDeadline(time.Now().Add(w.answer)) // a writer without deadlines has nothing to bound
		}
	}()
	next.ServeHTTP(rw, r)
}

// begin notes that a handler runs. Until the body is there the connection waits.
func (w *waiting) begin(nc net.Conn, pending bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, known := w.known[nc]
	if !known {
		return
	}
	e.fresh = false
	e.serving++
	if !pending {
		w.unqueueLocked(e)
	}
}

// end notes that a handler is done. Until the peer has read the answer, or sent what
// nobody has read, the connection waits. open is false if it is the server's no more.
func (w *waiting) end(nc net.Conn) (open bool, oldest net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, known := w.known[nc]
	if !known {
		return false, nil
	}
	if e.serving--; e.serving > 0 {
		return true, nil // others of HTTP/2 run on it
	}
	if e.by.IsZero() {
		e.by, e.reason = time.Now().Add(w.answer), CutNotRead
	}
	return true, w.queueLocked(nc, e)
}

// expect notes until when more of a body must come; arrived that all of it has.
func (w *waiting) expect(nc net.Conn, by time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e, known := w.known[nc]; known {
		e.by, e.reason = by, CutNoBody
	}
}

func (w *waiting) arrived(nc net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e, known := w.known[nc]; known {
		w.unqueueLocked(e)
	}
}

// body is that of a request. Whenever some of it has come there is time for more.
type body struct {
	io.ReadCloser
	w       *waiting
	nc      net.Conn
	control *http.ResponseController
	done    bool
}

// more gives the peer time for more.
func (b *body) more() {
	by := time.Now().Add(b.w.body)
	_ = b.control.SetReadDeadline(by) // as above
	b.w.expect(b.nc, by)
}

// Read implements io.Reader. At the end of the body the server takes the deadline
// away by itself: from then on it looks out for the end of the connection.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case b.done:
	case err == io.EOF:
		b.done = true
		b.w.arrived(b.nc)
	case errors.Is(err, os.ErrDeadlineExceeded):
		// Told here, because a connection of HTTP/2 goes on.
		b.done = true
		b.w.arrived(b.nc)
		b.w.onCut(CutNoBody)
	case err == nil && n > 0:
		b.more()
	}
	return n, err
}
