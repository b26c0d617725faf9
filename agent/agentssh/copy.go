package agentssh

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// copy copies until the source ends (nil) or either side fails; see, if not nil,
// is shown every piece before it is written and returns whether it wants more.
// It exists beside io.Copy because that allocates a buffer for each call.
func (s *Server) copy(dst io.Writer, src io.Reader, see func([]byte) bool) error {
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			if see != nil && !see((*buf)[:n]) {
				see = nil
			}
			if _, err := dst.Write((*buf)[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// When a process has ended, others may still have its output open: OpenSSH waits
// for them for ever, and many a command that leaves something in the background
// has hung because of it. Here the output ends once nobody has written for
// drainIdle, or drainTotal after the process; what is in the pipe then (up to
// drainRest) is still delivered. Time in which the client does not take what is
// there does not count as idle.
const (
	drainIdle  = 2 * time.Second
	drainTotal = time.Minute
	drainRest  = 1 << 20
)

// output is where the output of a process comes from.
type output struct {
	f      *os.File
	exited atomic.Pointer[time.Time] // nil while the process runs
	rest   int                       // bytes read after drainTotal
}

// processExited starts the limits above.
func (o *output) processExited() {
	now := time.Now()
	o.exited.Store(&now)
	// Wakes a read that is under way.
	_ = o.f.SetReadDeadline(now.Add(drainIdle))
}

// Read ends with io.EOF whatever the reason is.
func (o *output) Read(p []byte) (int, error) {
	late := false
	if at := o.exited.Load(); at != nil {
		wait := drainIdle
		if late = time.Since(*at) > drainTotal; late {
			wait = 10 * time.Millisecond
			if o.rest > drainRest {
				return 0, io.EOF
			}
		}
		_ = o.f.SetReadDeadline(time.Now().Add(wait))
	}
	n, err := o.f.Read(p)
	if late {
		o.rest += n
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) || isEndOfTerminal(err) {
		err = io.EOF
	}
	return n, err
}
