package controlapi

import (
	"bufio"
	"net"
	"net/http"
	"time"
)

// countedWriter is the writer that a counted handler gets. It belongs to one
// request. Its methods are those that handlers ask for by type; everything else
// http.ResponseController finds through Unwrap.
type countedWriter struct {
	http.ResponseWriter
	route    *routeMetrics
	began    time.Time
	code     int // 0 until the handler answers
	hijacked bool
	detached bool
}

// WriteHeader notes the first status that is an answer: others only announce one.
func (c *countedWriter) WriteHeader(code int) {
	if c.code == 0 && (code >= 200 || code == http.StatusSwitchingProtocols) {
		c.code = code
	}
	c.ResponseWriter.WriteHeader(code)
}

// Write answers 200 if nothing was said before.
func (c *countedWriter) Write(p []byte) (int, error) {
	c.implicit()
	return c.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (c *countedWriter) Flush() { _ = c.FlushError() }

// FlushError is Flush for http.ResponseController.
func (c *countedWriter) FlushError() error {
	c.implicit()
	return http.NewResponseController(c.ResponseWriter).Flush()
}

func (c *countedWriter) implicit() {
	if c.code == 0 {
		c.code = http.StatusOK
	}
}

// Hijack implements http.Hijacker. From then on the request is no request but an
// open websocket, or a connection like one.
func (c *countedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(c.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	c.hijacked, c.code = true, http.StatusSwitchingProtocols
	c.route.requests.Dec()
	c.route.websockets().Inc()
	return conn, rw, nil
}

// Unwrap is for http.ResponseController.
func (c *countedWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Detach has the caller say when a hijacked connection has ended, for handlers
// that return before: the server then gives up what it keeps for a request, which
// is more than a quiet connection needs otherwise.
func (c *countedWriter) Detach() (end func()) {
	c.detached = true
	route, began := c.route, c.began // and not the request
	return func() { route.closed(began) }
}

// end counts the request. A handler that said nothing has answered 200.
func (c *countedWriter) end() {
	c.implicit()
	switch {
	case !c.hijacked:
		c.route.requests.Dec()
		c.route.latencies.Observe(time.Since(c.began).Seconds())
	case !c.detached:
		c.route.closed(c.began)
	}
	c.route.processed(c.code).Inc() // last, so that what is processed is in all families
}

// closed counts the end of a websocket.
func (r *routeMetrics) closed(began time.Time) {
	r.of.durations.WithLabelValues(r.key.path).Observe(time.Since(began).Seconds())
	r.websockets().Dec()
}
