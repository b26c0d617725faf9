package controlapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/testtool"
)

// counted is a real HTTP server with routes that behave and routes that do not.
type counted struct {
	*httptest.Server
	t    *testing.T
	reg  *prometheus.Registry
	log  testtool.Buffer
	hold chan struct{} // /held answers when it is closed
}

func newCounted(t *testing.T, mode exposition.LabelMode) *counted {
	t.Helper()
	c := &counted{t: t, reg: prometheus.NewPedanticRegistry(), hold: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v2/things/{thing}", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.PathValue("thing")) })
	mux.HandleFunc("/api/v2/silent", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/api/v2/teapot", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
		w.WriteHeader(http.StatusOK) // too late
	})
	mux.HandleFunc("/api/v2/panic", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		panic("no good")
	})
	mux.HandleFunc("/api/v2/half", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		panic("no good")
	})
	mux.HandleFunc("/api/v2/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/api/v2/held", func(w http.ResponseWriter, _ *http.Request) { <-c.hold })
	mux.HandleFunc("/api/v2/socket", func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		_, _, _ = ws.Read(r.Context()) // until the client closes
		ws.CloseNow()
	})
	mux.HandleFunc("/", http.NotFound)
	route := func(r *http.Request) string { _, p := mux.Handler(r); return p }
	i := NewInstrument(InstrumentOptions{Route: route, Labels: mode, Registerer: c.reg, Log: slog.New(slog.NewTextHandler(&c.log, nil))})
	c.Server = httptest.NewServer(i.Wrap(mux))
	t.Cleanup(c.Close)
	return c
}

// ask returns the status, 0 for none, and less than 0 if the answer broke off.
func (c *counted) ask(method, path string) (status int) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.URL+path, nil)
	must(c.t, err)
	resp, err := c.Client().Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err != nil {
		return -resp.StatusCode
	}
	return resp.StatusCode
}

// series returns the counters and gauges of families, one a line.
func (c *counted) series(names ...string) string {
	c.t.Helper()
	families, err := c.reg.Gather()
	must(c.t, err)
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if !slices.Contains(names, f.GetName()) {
				continue
			}
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			fmt.Fprintf(&b, "%s{%s} %v\n", f.GetName(), strings.Join(labels, ","), m.GetCounter().GetValue()+m.GetGauge().GetValue())
		}
	}
	return b.String()
}

func (c *counted) want(text string, names ...string) {
	c.t.Helper()
	if diff := cmp.Diff(text, c.series(names...)); diff != "" {
		c.t.Errorf("series (-want +got):\n%s", diff)
	}
}

const (
	processed  = "coderd_api_requests_processed_total"
	requests   = "coderd_api_concurrent_requests"
	websockets = "coderd_api_concurrent_websockets"
)

// TestInstrument_EveryRequestIsCountedOnce: contract metrics.md section 2.4 with
// its pitfalls.
func TestInstrument_EveryRequestIsCountedOnce(t *testing.T) {
	c := newCounted(t, exposition.LabelsBoth)
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/api/v2/things/1", 200},
		{"GET", "/api/v2/things/2", 200}, // the same series
		{"HEAD", "/api/v2/things/2", 200},
		{"GET", "/api/v2/silent", 200}, // never 0
		{"GET", "/api/v2/teapot", 418},
		{"GET", "/api/v2/panic", 500},
		{"GET", "/api/v2/half", -200},
		{"GET", "/api/v2/abort", 0},
		{"GET", "/api/v2/nothing/here", 404},
		{"GET", "/favicon.ico", 404},
		{"BREW", "/api/v2/teapot", 418},
		{"SIP", "/api/v2/teapot", 418},
	} {
		if got := c.ask(tc.method, tc.path); got != tc.status {
			t.Errorf("%s %s: %d, want %d", tc.method, tc.path, got, tc.status)
		}
	}
	c.want(`coderd_api_requests_processed_total{code=200,method=GET,path=/api/v2/silent} 1
coderd_api_requests_processed_total{code=200,method=GET,path=/api/v2/things/{thing}} 2
coderd_api_requests_processed_total{code=200,method=HEAD,path=/api/v2/things/{thing}} 1
coderd_api_requests_processed_total{code=404,method=GET,path=STATIC} 1
coderd_api_requests_processed_total{code=404,method=GET,path=UNKNOWN} 1
coderd_api_requests_processed_total{code=418,method=GET,path=/api/v2/teapot} 1
coderd_api_requests_processed_total{code=418,method=OTHER,path=/api/v2/teapot} 2
coderd_api_requests_processed_total{code=500,method=GET,path=/api/v2/abort} 1
coderd_api_requests_processed_total{code=500,method=GET,path=/api/v2/half} 1
coderd_api_requests_processed_total{code=500,method=GET,path=/api/v2/panic} 1
worktally_api_panics_total{} 2
`, processed, "worktally_api_panics_total")
	if strings.Contains(strings.ReplaceAll(c.series(requests), "} 0\n", ""), "} ") {
		t.Errorf("requests are in flight:\n%s", c.series(requests))
	}
	if log := c.log.String(); strings.Count(log, "no good") != 2 || !strings.Contains(log, "instrument_test.go") {
		t.Errorf("the log: %s", log)
	}
}

// TestInstrument_PanicKeepsTheConnection: unless half an answer is out already. One
// connection is used by hand, for a client may give a good one up.
func TestInstrument_PanicKeepsTheConnection(t *testing.T) {
	c := newCounted(t, exposition.LabelsBoth)
	conn, err := net.Dial("tcp", c.Listener.Addr().String())
	must(t, err)
	defer conn.Close()
	r := bufio.NewReader(conn)
	for _, tc := range []struct {
		path   string
		status int
		whole  bool
	}{{"/api/v2/silent", 200, true}, {"/api/v2/panic", 500, true}, {"/api/v2/half", 200, false}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.URL+tc.path, nil)
		must(t, err)
		must(t, req.Write(conn))
		resp, err := http.ReadResponse(r, req)
		if err != nil {
			t.Fatalf("%s: %v", tc.path, err)
		}
		_, err = io.ReadAll(resp.Body)
		if resp.StatusCode != tc.status || (err == nil) != tc.whole {
			t.Errorf("%s: %s, %v", tc.path, resp.Status, err)
		}
	}
	if _, err := r.ReadByte(); err == nil {
		t.Error("the connection is still there after half an answer")
	}
}

func (c *counted) until(what string, ok func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("timed out waiting: %s", what)
		}
	}
}

func TestInstrument_Websockets(t *testing.T) {
	c := newCounted(t, exposition.LabelsLive)
	ws, _, err := websocket.Dial(t.Context(), c.URL+"/api/v2/socket", nil)
	must(t, err)
	const idle = requests + "{method=GET,path=/api/v2/socket} 0\n"
	open := idle + websockets + "{path=/api/v2/socket} 1\n"
	c.until("the websocket is open", func() bool { return c.series(requests, websockets) == open })
	c.want("", processed)
	must(t, ws.Close(websocket.StatusNormalClosure, ""))
	closed := idle + websockets + "{path=/api/v2/socket} 0\n" + processed + "{code=101,method=GET,path=/api/v2/socket} 1\n"
	c.until("the websocket is closed", func() bool { return c.series(requests, websockets, processed) == closed })
	// A request that only wants to be one is a request.
	if status := c.ask("GET", "/api/v2/socket"); status != http.StatusUpgradeRequired {
		t.Errorf("status %d", status)
	}
	for family, want := range map[string]uint64{"coderd_api_websocket_durations_seconds": 1, "coderd_api_request_latencies_seconds": 1} {
		if got := c.observations(family); got != want {
			t.Errorf("%s has %d observations, want %d", family, got, want)
		}
	}
}

func (c *counted) observations(name string) (n uint64) {
	families, err := c.reg.Gather()
	must(c.t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				n += m.GetHistogram().GetSampleCount()
				if len(m.GetHistogram().GetPositiveSpan()) == 0 && n > 0 {
					c.t.Errorf("%s has no native buckets", name)
				}
			}
		}
	}
	return n
}

// TestInstrument_InFlight: in all modes of labels.
func TestInstrument_InFlight(t *testing.T) {
	for mode, series := range map[exposition.LabelMode]string{
		exposition.LabelsBoth: "{method=GET,path=/api/v2/held} 1\n", exposition.LabelsLive: "{method=GET,path=/api/v2/held} 1\n", exposition.LabelsSeed: "{} 1\n",
	} {
		t.Run(mode.String(), func(t *testing.T) {
			c := newCounted(t, mode)
			done := make(chan struct{})
			go func() { defer close(done); c.ask("GET", "/api/v2/held") }()
			c.until("the request is in flight", func() bool { return c.series(requests) == requests+series })
			close(c.hold)
			<-done
		})
	}
}

func TestInstrument_AllocatesLittle(t *testing.T) {
	i := NewInstrument(InstrumentOptions{Route: func(*http.Request) string { return "GET /x" }})
	h := i.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(context.Background(), "GET", "/x", nil)
	if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n > 1 {
		t.Errorf("%v allocations for each request", n)
	}
}

func BenchmarkInstrument(b *testing.B) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v2/things/{thing}", func(http.ResponseWriter, *http.Request) {})
	route := func(r *http.Request) string { _, p := mux.Handler(r); return p }
	for name, h := range map[string]http.Handler{"bare": mux, "counted": NewInstrument(InstrumentOptions{Route: route}).Wrap(mux)} {
		b.Run(name, func(b *testing.B) {
			w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(context.Background(), "GET", "/api/v2/things/1", nil)
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}
