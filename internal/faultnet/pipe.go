package faultnet

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/worktally/worktally/internal/retry"
)

const (
	chunkSize = 32 << 10
	// maxUnderWay is how many chunks one direction of a connection holds; then its
	// source waits.
	maxUnderWay = 32
)

// chunk is something under way. The last one has no bytes: the source has ended.
type chunk struct {
	data []byte
	sent time.Time
}

// pipe is one direction of a link.
type pipe struct {
	link     *link
	src, dst net.Conn
	queue    chan chunk
	// taken and delivered count bytes, if they are not nil.
	taken, delivered *atomic.Uint64
	replies          bool
	// rng and left (bytes until the reset, 0 for never) belong to the writer.
	rng  *rand.Rand
	left int

	mu    sync.Mutex
	ended bool // the target got an end; what comes later is thrown away
}

func newPipe(l *link, src, dst net.Conn, rng *rand.Rand) *pipe {
	return &pipe{link: l, src: src, dst: dst, rng: rng, queue: make(chan chunk, maxUnderWay)}
}

// read takes what the source sends until that ends or breaks.
func (d *pipe) read() {
	defer close(d.queue)
	for {
		buf := make([]byte, chunkSize)
		n, err := d.src.Read(buf)
		add(d.taken, n)
		if n > 0 && !d.send(chunk{buf[:n], time.Now()}) {
			return
		}
		switch {
		case errors.Is(err, io.EOF):
			d.send(chunk{nil, time.Now()})
			return
		case err != nil:
			d.link.reset()
			return
		}
	}
}

func add(to *atomic.Uint64, n int) {
	if to != nil {
		to.Add(uint64(n))
	}
}

func (d *pipe) send(c chunk) bool {
	select {
	case d.queue <- c:
		return true
	case <-d.link.ctx.Done():
		return false
	}
}

// write delivers what is under way.
func (d *pipe) write() {
	for c := range d.queue {
		if err := d.deliver(c); err != nil {
			d.link.reset()
			return
		}
	}
}

// deliver delivers a chunk as the faults of the moment want it.
func (d *pipe) deliver(c chunk) error {
	for first := true; first || len(c.data) > 0; first = false {
		f, err := d.passable()
		if err != nil {
			return err
		}
		if err := d.sleep(time.Until(c.sent.Add(f.Latency))); err != nil {
			return err
		}
		if len(c.data) == 0 {
			d.end()
			return nil
		}
		n := f.piece(d.rng, len(c.data))
		if d.left > 0 {
			n = min(n, d.left)
		}
		if err := d.put(c.data[:n], f.LoseReplies && d.replies); err != nil {
			return err
		}
		c.data = c.data[n:]
		if d.left > 0 {
			if d.left -= n; d.left == 0 {
				return errBroken
			}
		}
		if err := d.sleep(f.pause(n)); err != nil {
			return err
		}
	}
	return nil
}

var errBroken = errors.New("the connection breaks here")

// put writes, unless nobody will see it.
func (d *pipe) put(p []byte, lost bool) error {
	if lost || d.isEnded() {
		return nil
	}
	n, err := d.dst.Write(p)
	add(d.delivered, n)
	if err != nil && d.isEnded() {
		return nil // it ended meanwhile
	}
	return err
}

// passable waits for the end of a stall and returns what is wrong then.
func (d *pipe) passable() (Faults, error) {
	for {
		f, changed := d.link.p.state()
		if !f.Stall {
			return f, d.link.ctx.Err()
		}
		select {
		case <-changed:
		case <-d.link.ctx.Done():
			return f, d.link.ctx.Err()
		}
	}
}

func (d *pipe) sleep(wait time.Duration) error {
	if wait <= 0 {
		return nil
	}
	return retry.Sleep(d.link.ctx, wait)
}

func (d *pipe) isEnded() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ended
}

// end passes the end of the source on.
func (d *pipe) end() {
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
	if h, ok := d.dst.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
}
