package agentpty

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// pieceBytes is the most that one write to a client takes, so that a slow
// client shows progress.
const pieceBytes = 16 << 10

var errTooSlow = errors.New("client takes no output")

// attachment is one client's view of a terminal: a bounded queue of output and
// the loop that writes it to the connection.
type attachment struct {
	conn         net.Conn
	limit        int
	writeTimeout time.Duration

	// mu guards the fields below.
	mu    sync.Mutex
	queue []byte
	// finished says that nothing more will come.
	finished bool
	err      error
	// ready says that there is something to do for the writer, room that the
	// writer took something.
	ready, room chan struct{}
	gone        chan struct{}
}

func newAttachment(c net.Conn, o Options) *attachment {
	return &attachment{
		conn: c, limit: o.QueueBytes, writeTimeout: o.WriteTimeout,
		ready: make(chan struct{}, 1), room: make(chan struct{}, 1), gone: make(chan struct{}),
	}
}

// enqueue hands output over. While the queue is full it waits as long as the
// client makes progress within the patience. It returns false when the
// attachment is over, be it that the client took nothing for too long.
func (a *attachment) enqueue(p []byte, patience time.Duration) bool {
	var limit *time.Timer
	for {
		a.mu.Lock()
		if a.finished || a.err != nil {
			a.mu.Unlock()
			return false
		}
		if len(a.queue)+len(p) <= a.limit {
			a.queue = append(a.queue, p...)
			a.mu.Unlock()
			signal(a.ready)
			return true
		}
		a.mu.Unlock()
		if limit == nil {
			limit = time.NewTimer(patience)
			defer limit.Stop()
		}
		select {
		case <-a.room:
			limit.Reset(patience)
		case <-a.gone:
			return false
		case <-limit.C:
			a.abort(errTooSlow)
			return false
		}
	}
}

// finish says that no output follows: the writer ends when the queue is empty.
func (a *attachment) finish() {
	a.mu.Lock()
	a.finished = true
	a.mu.Unlock()
	signal(a.ready)
}

// abort ends the writer at once; the first error stays.
func (a *attachment) abort(err error) {
	a.mu.Lock()
	first := a.err == nil
	if first {
		a.err = err
	}
	a.mu.Unlock()
	if first {
		close(a.gone)
		a.conn.Close() // a blocked write ends
	}
}

// run writes until the attachment is finished (nil) or aborted, or the
// connection fails.
func (a *attachment) run() error {
	var piece []byte
	for {
		a.mu.Lock()
		err, finished := a.err, a.finished
		n := min(len(a.queue), pieceBytes)
		piece = append(piece[:0], a.queue[:n]...)
		a.queue = a.queue[:copy(a.queue, a.queue[n:])]
		a.mu.Unlock()
		switch {
		case err != nil:
			return err
		case n == 0 && finished:
			return nil
		case n == 0:
			select {
			case <-a.ready:
			case <-a.gone:
			}
			continue
		}
		signal(a.room)
		if err := a.write(piece); err != nil {
			a.abort(err)
			a.mu.Lock()
			err = a.err
			a.mu.Unlock()
			return err
		}
	}
}

func (a *attachment) write(p []byte) error {
	if err := a.conn.SetWriteDeadline(time.Now().Add(a.writeTimeout)); err != nil {
		return err
	}
	_, err := a.conn.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errTooSlow
	}
	return err
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
