package exposition

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// scrapeServer serves a page that is larger than what sockets buffer.
type scrapeServer struct {
	*httptest.Server
	cut atomic.Int64
}

func newScrapeServer(t *testing.T, o HandlerOptions) *scrapeServer {
	t.Helper()
	page := samplePage(t)
	for len(page.Rows) < 20_000 {
		page.Rows = append(page.Rows, page.Rows...)
	}
	s := &scrapeServer{}
	o.Page, o.Registry, o.OnCut = func() Page { return page }, prometheus.NewRegistry(), func() { s.cut.Add(1) }
	s.Server = httptest.NewServer(NewHandler(o))
	t.Cleanup(s.Close)
	return s
}

// from asks for the page from an address of loopback and reads nothing but the
// beginning of the answer.
func (s *scrapeServer) from(t *testing.T, host string) (status string, nc net.Conn) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
	nc, err := d.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(nc, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(nc, b); err != nil {
		t.Fatal(err)
	}
	return string(b[len("HTTP/1.1 "):]), nc
}

// scrape reads a whole page as Prometheus would and returns why it could not.
func (s *scrapeServer) scrape(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
		return fmt.Errorf("status %d, %d bytes: %w", resp.StatusCode, n, err)
	}
	return nil
}

// TestHandler_SlowReadersKeepNobodyOut has readers who take all places and read
// nothing. They are cut, and the page is there at once.
func TestHandler_SlowReadersKeepNobodyOut(t *testing.T) {
	s := newScrapeServer(t, HandlerOptions{})
	for i := range 40 { // 24 more than there are places, all of one host
		if status, _ := s.from(t, "127.0.0.2"); i < 16 && status != "200" {
			t.Fatalf("reader %d: %s", i, status)
		}
	}
	begin := time.Now()
	for range 3 {
		if err := s.scrape(t); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("three scrapes took %v", took)
	}
	if s.cut.Load() == 0 {
		t.Error("no slow reader was cut, or none was counted")
	}
}

// TestHandler_SlowReadersOfManyHosts has every place taken by another host: after a
// second the oldest goes.
func TestHandler_SlowReadersOfManyHosts(t *testing.T) {
	s := newScrapeServer(t, HandlerOptions{MaxScrapes: 4})
	began := time.Now()
	for i := range 4 {
		if status, _ := s.from(t, fmt.Sprintf("127.0.0.%d", 2+i)); status != "200" {
			t.Fatal(status)
		}
	}
	// On a machine that stands still it is not at once.
	if err := s.scrape(t); time.Since(began) < unhurried && (err == nil || !strings.Contains(err.Error(), "503")) {
		t.Errorf("at once: %v, want 503", err)
	}
	end := time.Now().Add(20 * time.Second)
	for s.scrape(t) != nil {
		if time.Now().After(end) {
			t.Fatal("still kept out")
		}
	}
	if s.cut.Load() != 1 {
		t.Errorf("%d were cut, want 1", s.cut.Load())
	}
}

// TestHandler_SlowReaderIsCutInTheEnd: with places left, time is the bound.
func TestHandler_SlowReaderIsCutInTheEnd(t *testing.T) {
	s := newScrapeServer(t, HandlerOptions{WriteTimeout: 2 * time.Second})
	_, nc := s.from(t, "127.0.0.2")
	end := time.Now().Add(20 * time.Second)
	for s.cut.Load() != 1 {
		if time.Now().After(end) {
			t.Fatal("not cut")
		}
		time.Sleep(5 * time.Millisecond)
	}
	page, err := io.ReadAll(nc)
	if err == nil && strings.HasSuffix(string(page), "0\r\n\r\n") {
		t.Error("the page looks whole")
	}
}
