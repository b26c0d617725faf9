package exposition

import (
	"compress/gzip"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// HandlerOptions says what a metrics handler serves.
type HandlerOptions struct {
	// Page returns what is shown now. It must not block. Gathered is filled in by
	// the handler.
	Page func() Page
	// Registry holds the families of libraries. The handler adds promhttp_* to it.
	Registry *prometheus.Registry
	// Ready says whether the process does its work; nil means always.
	Ready func() bool
	// MaxScrapes bounds the scrapes served at once; 0 means 16. More are
	// answered 503 and counted by promhttp.
	MaxScrapes int
	// WriteTimeout bounds how long a slow reader may take; 0 means 60 s.
	WriteTimeout time.Duration
	Log          *slog.Logger
}

// NewHandler serves the page on every path but /-/healthy and /-/ready. The page
// is always answered 200: a registry that fails leaves out its own families and
// is logged.
func NewHandler(o HandlerOptions) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxScrapes <= 0 {
		o.MaxScrapes = 16
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = time.Minute
	}
	h := &handler{o: o, slots: make(chan struct{}, o.MaxScrapes)}
	h.zip.New = func() any { z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed); return z }
	mux := http.NewServeMux()
	mux.HandleFunc("/-/healthy", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "healthy") })
	mux.HandleFunc("/-/ready", h.ready)
	mux.Handle("/", promhttp.InstrumentMetricHandler(o.Registry, http.HandlerFunc(h.scrape)))
	return mux
}

// NewRuntimeRegistry returns a registry with go_* and process_*, and the one row
// of the seed that client libraries no longer have.
func NewRuntimeRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "go_memstats_lookups_total",
			Help: "Pointer lookups of the runtime, which it stopped counting: always 0.",
		}, func() float64 { return 0 }),
	)
	return r
}

type handler struct {
	o     HandlerOptions
	slots chan struct{}
	zip   sync.Pool
}

func (h *handler) ready(w http.ResponseWriter, _ *http.Request) {
	if h.o.Ready != nil && !h.o.Ready() {
		plain(w, http.StatusServiceUnavailable, "not ready")
		return
	}
	plain(w, http.StatusOK, "ready")
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

func (h *handler) scrape(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		plain(w, http.StatusMethodNotAllowed, "only GET and HEAD")
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		plain(w, http.StatusServiceUnavailable, "too many scrapes at once")
		return
	}
	page := h.o.Page()
	gathered, err := h.o.Registry.Gather()
	if err != nil {
		h.o.Log.Warn("gather families of libraries", "err", err)
	}
	page.Gathered = gathered
	format := Negotiate(r.Header.Get("Accept"))
	// A writer without deadlines (a test recorder) has nothing to bound.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(h.o.WriteTimeout))
	w.Header().Set("Content-Type", format.ContentType())
	w.Header().Set("Vary", "Accept, Accept-Encoding")
	if r.Method == http.MethodHead {
		return
	}
	var out io.Writer = w
	if acceptsGzip(r.Header.Get("Accept-Encoding")) {
		w.Header().Set("Content-Encoding", "gzip")
		z := h.zip.Get().(*gzip.Writer)
		z.Reset(w)
		defer func() {
			_ = z.Close() // the reader is gone if this fails
			h.zip.Put(z)
		}()
		out = z
	}
	if err := page.Write(out, format); err != nil {
		h.o.Log.Debug("scrape ended early", "err", err, "remote", r.RemoteAddr)
	}
}

// Negotiate returns the format that an Accept header asks for: OpenMetrics 1.0
// if it is wanted at least as much as plain text, otherwise plain text.
func Negotiate(accept string) Format {
	open, text := -1.0, -1.0
	for _, part := range strings.Split(accept, ",") {
		media, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := quality(params)
		switch strings.ToLower(strings.TrimSpace(media)) {
		case "application/openmetrics-text":
			if v := param(params, "version"); v == "" || v == "1.0.0" || v == "0.0.1" {
				open = max(open, q)
			}
		case "text/plain":
			text = max(text, q)
		}
	}
	if open > 0 && open >= text {
		return OpenMetrics
	}
	return Text
}

func acceptsGzip(header string) bool {
	for _, part := range strings.Split(header, ",") {
		coding, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(coding, "gzip") {
			return quality(params) > 0
		}
	}
	return false
}

func quality(params string) float64 {
	v := param(params, "q")
	if v == "" {
		return 1
	}
	q, err := strconv.ParseFloat(v, 64)
	if err != nil {
		return 0
	}
	return q
}

func param(params, name string) string {
	for _, p := range strings.Split(params, ";") {
		k, v, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(k), name) {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}
