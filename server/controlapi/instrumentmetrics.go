package controlapi

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/worktally/worktally/exposition"
)

// requestMetrics are the families of an Instrument. Names, labels and classic
// buckets are the contract's (metrics.md sections 2.4 and 5).
type requestMetrics struct {
	bare       bool // the gauges have no labels
	processed  *prometheus.CounterVec
	latencies  *prometheus.HistogramVec
	durations  *prometheus.HistogramVec
	requests   *prometheus.GaugeVec
	websockets *prometheus.GaugeVec
	panics     prometheus.Counter
}

func newRequestMetrics(reg prometheus.Registerer, mode exposition.LabelMode) *requestMetrics {
	with := promauto.With(reg)
	m := &requestMetrics{bare: mode == exposition.LabelsSeed}
	m.processed = with.NewCounterVec(prometheus.CounterOpts{
		Name: "coderd_api_requests_processed_total",
		Help: "Requests to the server's API that came to an end, by route and status; a websocket ends as 101 when it is closed.",
	}, []string{"code", "method", "path"})
	m.latencies = with.NewHistogramVec(histogram("coderd_api_request_latencies_seconds",
		"Time to serve requests to the server's API, without websockets, by route.",
		0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10, 30), []string{"method", "path"})
	m.durations = with.NewHistogramVec(histogram("coderd_api_websocket_durations_seconds",
		"Lifetime of closed websockets, and of connections that were upgraded in another way, by route.",
		0.001, 1, 60, 3600, 54000, 108000), []string{"path"})
	methodPath, pathOnly := []string{"method", "path"}, []string{"path"}
	if m.bare {
		methodPath, pathOnly = nil, nil
	}
	m.requests = with.NewGaugeVec(prometheus.GaugeOpts{
		Name: "coderd_api_concurrent_requests",
		Help: "Requests to the server's API in flight, without open websockets.",
	}, methodPath)
	m.websockets = with.NewGaugeVec(prometheus.GaugeOpts{
		Name: "coderd_api_concurrent_websockets",
		Help: "Open websockets of the server's API, and connections that were upgraded in another way.",
	}, pathOnly)
	if m.bare { // there is one series each, and it is there from the start
		m.requests.WithLabelValues()
		m.websockets.WithLabelValues()
	}
	m.panics = with.NewCounter(prometheus.CounterOpts{
		Name: "worktally_api_panics_total",
		Help: "Requests that ended in a mistake of the server's; they are answered 500 if they were not answered yet.",
	})
	return m
}

// histogram has the classic buckets of the contract, and native ones for whoever
// scrapes protobuf.
func histogram(name, help string, buckets ...float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}
}

// routeMetrics are the series of one route and method, looked up once.
type routeMetrics struct {
	key       routeKey
	of        *requestMetrics
	latencies prometheus.Observer
	requests  prometheus.Gauge

	mu    sync.RWMutex // guards codes
	codes map[int]prometheus.Counter
}

// route makes the series of a route.
func (m *requestMetrics) route(k routeKey) *routeMetrics {
	r := &routeMetrics{key: k, of: m, codes: make(map[int]prometheus.Counter)}
	r.latencies = m.latencies.WithLabelValues(k.method, k.path)
	if m.bare {
		r.requests = m.requests.WithLabelValues()
	} else {
		r.requests = m.requests.WithLabelValues(k.method, k.path)
	}
	return r
}

// websockets is looked up each time: most routes never have any, and those that
// have need no hurry.
func (r *routeMetrics) websockets() prometheus.Gauge {
	if r.of.bare {
		return r.of.websockets.WithLabelValues()
	}
	return r.of.websockets.WithLabelValues(r.key.path)
}

// processed returns the counter of a status.
func (r *routeMetrics) processed(code int) prometheus.Counter {
	r.mu.RLock()
	c := r.codes[code]
	r.mu.RUnlock()
	if c != nil {
		return c
	}
	c = r.of.processed.WithLabelValues(strconv.Itoa(code), r.key.method, r.key.path)
	r.mu.Lock()
	r.codes[code] = c
	r.mu.Unlock()
	return c
}
