package agentssh

import (
	"net"
	"slices"
	"sync"
)

// handshakes are the connections whose clients are not let in yet, the oldest
// first. When there are too many the oldest goes: a client that means it needs a
// moment, so whoever opens connections and says nothing keeps nobody out.
type handshakes struct {
	mu   sync.Mutex
	open []net.Conn
}

// begin enters a connection and returns the one that had to go for it, or nil.
func (h *handshakes) begin(nc net.Conn, limit int) (evicted net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.open) >= limit {
		evicted = h.open[0]
		h.open = slices.Delete(h.open, 0, 1)
	}
	h.open = append(h.open, nc)
	return evicted
}

// end takes it out, and returns whether it was still there.
func (h *handshakes) end(nc net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.Index(h.open, nc)
	if i < 0 {
		return false
	}
	h.open = slices.Delete(h.open, i, i+1)
	return true
}

// maxLoggedError bounds what of an error is logged: it quotes what a stranger sent.
const maxLoggedError = 300

func shortened(err error) string {
	text := err.Error()
	if len(text) > maxLoggedError {
		text = text[:maxLoggedError] + "..."
	}
	return text
}
