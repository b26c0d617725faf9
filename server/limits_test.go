package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// listening runs a server with a page and nothing else.
func listening(t *testing.T) *Server {
	t.Helper()
	o := Options{StateDir: t.TempDir(), HTTPAddress: "127.0.0.1:0", FirstToken: io.Discard}
	o.Prometheus.Enable, o.Prometheus.Address = true, "127.0.0.1:0"
	s, err := New(t.Context(), o)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestLimits_AreCountedOnThePage cuts connections on both listeners.
func TestLimits_AreCountedOnThePage(t *testing.T) {
	s := listening(t)
	for _, addr := range []string{s.HTTPAddr(), s.PrometheusAddr()} {
		nc, err := net.Dial("tcp", addr)
		must(t, err)
		_, err = io.WriteString(nc, "GET /api/v2/workspaceagents/me/rpc HTTP/1.1\r\nUpgrade: webso")
		must(t, err)
		must(t, nc.Close())
	}
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	poll(t, "both counts", func() bool {
		resp, err := client.Get("http://" + s.PrometheusAddr() + "/metrics")
		must(t, err)
		defer resp.Body.Close()
		page, err := io.ReadAll(resp.Body)
		must(t, err)
		return strings.Contains(string(page), `worktally_http_connections_cut_total{listener="api",reason="no_request"} 1`) &&
			strings.Contains(string(page), `worktally_http_connections_cut_total{listener="metrics",reason="no_request"} 1`) &&
			strings.Contains(string(page), "worktally_scrapes_cut_total 0")
	})
}
