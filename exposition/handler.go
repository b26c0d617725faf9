package exposition

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
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
	// MaxScrapes bounds the scrapes served at once; 0 means 16. For one more the
	// oldest of the host that has the most is cut; if that has just begun the new
	// one is answered 503, which promhttp counts.
	MaxScrapes int
	// WriteTimeout bounds how long a slow reader may take; 0 means 60 s. Then its
	// scrape is cut.
	WriteTimeout time.Duration
	// OnCut is called for each scrape that was cut, concurrently; nil does nothing.
	OnCut func()
	// Parts serves the parts of a server's page under paths of their own:
	// /metrics/replica and /metrics/deployment.
	Parts bool
	// Codings are the content codings that are offered, the preferred first; nil
	// means the standard library's gzip.
	Codings []Coding
	Log     *slog.Logger
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
	if o.OnCut == nil {
		o.OnCut = func() {}
	}
	if o.Codings == nil {
		o.Codings = []Coding{plainGzip()}
	}
	h := &handler{o: o, scrapes: scrapes{limit: o.MaxScrapes}, codings: newCodings(o.Codings)}
	page := promhttp.InstrumentMetricHandler(o.Registry, http.HandlerFunc(h.scrape))
	// No ServeMux: it would redirect a path that is not clean.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/-/healthy":
			plain(w, http.StatusOK, "healthy")
		case "/-/ready":
			h.ready(w, r)
		default:
			page.ServeHTTP(w, r)
		}
	})
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
	o       HandlerOptions
	scrapes scrapes
	codings *codings
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
	control := http.NewResponseController(w)
	// A writer without deadlines (a test recorder) has nothing to bound.
	_ = control.SetWriteDeadline(time.Now().Add(h.o.WriteTimeout))
	mine, gone := h.scrapes.take(r.RemoteAddr, func() { _ = control.SetWriteDeadline(time.Unix(1, 0)) })
	if mine == nil {
		plain(w, http.StatusServiceUnavailable, "too many scrapes at once")
		return
	}
	defer h.scrapes.leave(mine)
	if gone != nil {
		select {
		case <-gone:
		case <-time.After(handover):
		case <-r.Context().Done():
			return
		}
	}
	h.write(w, r)
}

// write renders the page that a request wants to see.
func (h *handler) write(w http.ResponseWriter, r *http.Request) {
	page := h.page(r)
	format := Negotiate(r.Header.Get("Accept"))
	coding := negotiateCoding(r.Header.Get("Accept-Encoding"), h.codings.names)
	w.Header().Set("Content-Type", format.ContentType())
	w.Header().Set("Vary", "Accept, Accept-Encoding")
	if coding != identityCoding {
		w.Header().Set("Content-Encoding", coding)
	}
	if r.Method == http.MethodHead {
		return
	}
	err := h.codings.encode(coding, w, func(w io.Writer) error { return page.Write(w, format) })
	if errors.Is(err, os.ErrDeadlineExceeded) {
		h.o.OnCut()
	}
	if err != nil {
		h.o.Log.Debug("scrape ended early", "err", err, "remote", r.RemoteAddr)
	}
}

// page returns what a request wants to see. A registry that fails leaves out its
// own families and is logged.
func (h *handler) page(r *http.Request) Page {
	page := h.o.Page()
	if h.o.Parts {
		page.Part = partOf(r.URL.Path)
	}
	if names := r.URL.Query()["name[]"]; len(names) > 0 {
		page.Names = make(map[string]bool, len(names))
		for _, n := range names {
			page.Names[n] = true
		}
	}
	if page.Part == Deployment {
		return page
	}
	gathered, err := h.o.Registry.Gather()
	if err != nil {
		h.o.Log.Warn("gather families of libraries", "err", err)
	}
	page.Gathered = gathered
	return page
}

func partOf(path string) Part {
	switch path {
	case "/metrics/replica":
		return Replica
	case "/metrics/deployment":
		return Deployment
	}
	return Everything
}
