package controlapi

import (
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/wire"
)

// InstrumentOptions say what is counted where.
type InstrumentOptions struct {
	// Route returns the pattern that a mux has for a request, "" or "/" if none has
	// one of its own. Required; it is asked before the request is served.
	Route func(*http.Request) string
	// Labels chooses the labels of the two gauges whose published and real labels
	// differ.
	Labels exposition.LabelMode
	// Registerer receives the families. Nil keeps them private.
	Registerer prometheus.Registerer
	// Log receives panics of handlers. Nil discards them.
	Log *slog.Logger
}

// Instrument counts requests of an HTTP server: coderd_api_* (contract metrics.md
// section 2.4). It is safe for concurrent use.
type Instrument struct {
	o       InstrumentOptions
	metrics *requestMetrics
	log     *slog.Logger

	// mu guards the map; what is in it is for ever. Its size is bounded by the
	// routes, times the known methods.
	mu     sync.RWMutex
	routes map[routeKey]*routeMetrics
}

// NewInstrument registers the families.
func NewInstrument(o InstrumentOptions) *Instrument {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Instrument{o: o, log: o.Log, metrics: newRequestMetrics(o.Registerer, o.Labels), routes: make(map[routeKey]*routeMetrics)}
}

// Wrap counts the requests that next serves. A handler that panics before it has
// answered is answered for with 500, and the connection stays usable; one that
// panics later has its connection cut, so that nobody takes the half of an answer
// for a whole one.
func (i *Instrument) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := i.route(routeKey{method(r.Method), path(i.o.Route(r), r.URL.Path)})
		c := &countedWriter{ResponseWriter: w, route: m, began: time.Now()}
		m.requests.Inc()
		defer func() {
			cut := i.recovered(c, r, recover())
			c.end()
			if cut {
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(c, r)
	})
}

// recovered answers for a handler that has panicked and reports whether the
// connection has to be cut.
func (i *Instrument) recovered(c *countedWriter, r *http.Request, problem any) (cut bool) {
	if problem == nil {
		return false
	}
	answered := c.code != 0
	if err, ok := problem.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
		i.metrics.panics.Inc()
		i.log.Error("panic while serving a request", "panic", problem, "method", r.Method, "route", r.Pattern, "stack", string(debug.Stack()))
		if !answered {
			clear(c.Header()) // what the handler said about an answer that it did not give
			wire.WriteError(c, http.StatusInternalServerError, wire.Error{Message: "Internal server error.", Detail: "The server's log says more."})
		}
		cut = answered && !c.hijacked
	} else {
		cut = true
	}
	if !c.hijacked {
		c.code = http.StatusInternalServerError
	}
	return cut
}

// routeKey is what requests are told apart by. Both are from bounded sets.
type routeKey struct{ method, path string }

func (i *Instrument) route(k routeKey) *routeMetrics {
	i.mu.RLock()
	m := i.routes[k]
	i.mu.RUnlock()
	if m != nil {
		return m
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if m = i.routes[k]; m == nil {
		m = i.metrics.route(k)
		i.routes[k] = m
	}
	return m
}

// method returns the label of a method: clients may invent as many as they like.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return m
	}
	return "OTHER"
}

// path returns the label of a pattern: without its method, and with a name for all
// that have none.
func path(pattern, asked string) string {
	if _, after, found := strings.Cut(pattern, " "); found {
		pattern = after
	}
	switch {
	case pattern != "" && pattern != "/":
		return pattern
	case asked == "/api" || strings.HasPrefix(asked, "/api/"):
		return "UNKNOWN"
	}
	return "STATIC"
}
