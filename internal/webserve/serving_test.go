package webserve

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// soon is Bounded with bounds of time that a test can wait for.
func soon(limit int, c *cuts) Bound { return within(300*time.Millisecond, limit, c) }

func within(bound time.Duration, limit int, c *cuts) Bound {
	return func(s *http.Server, l net.Listener) net.Listener {
		w := newWaiting(limit, c.add)
		w.body, w.answer = bound, bound
		w.attach(s)
		return l
	}
}

// refusing answers without a look at the body, as for who has no token.
func refusing(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "who are you", http.StatusUnauthorized)
}

const halfBody = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"

// TestServe_BodiesThatDoNotComeAreCut: the server reads what a handler leaves of a
// body, for ever if nobody bounds that.
func TestServe_BodiesThatDoNotComeAreCut(t *testing.T) {
	handlers := map[string]http.HandlerFunc{
		"nobody reads it": refusing,
		"the handler reads it": func(w http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			http.Error(w, err.Error(), http.StatusBadRequest)
		},
	}
	for name, handler := range handlers {
		t.Run(name, func(t *testing.T) {
			var c cuts
			addr := served(t, Options{Bound: soon(10, &c), Handler: handler})
			nc := dialed(t, addr, halfBody)
			if _, err := io.Copy(io.Discard, nc); err != nil {
				t.Errorf("the connection was not closed: %v", err)
			}
			until(t, "one counted", func() bool { return c.of(CutNoBody) == 1 })
			if n := c.of(CutNotRead) + c.of(CutNoRequest); n != 0 {
				t.Errorf("%d counted otherwise", n)
			}
		})
	}
}

// TestServe_SlowBodyThatComes takes longer than the bound, but never nothing comes.
func TestServe_SlowBodyThatComes(t *testing.T) {
	t.Parallel()
	const bound = 3 * time.Second // a busy machine may stand still for a while, too
	var c cuts
	addr := served(t, Options{Bound: within(bound, 10, &c), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil && len(b) > 0 {
			select { // the bound is that of the body, not of the handler
			case <-time.After(bound + bound/2):
			case <-r.Context().Done():
				err = r.Context().Err()
			}
		}
		if err != nil {
			b = []byte(err.Error())
		}
		_, _ = w.Write(b)
	})})
	nc := dialed(t, addr, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
	tick := time.NewTicker(bound / 8)
	defer tick.Stop()
	for range 10 {
		<-tick.C
		if _, err := io.WriteString(nc, "x"); err != nil {
			t.Fatal(err)
		}
	}
	// The connection is used again.
	if _, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(nc)
	if err != nil || strings.Count(string(got), "200 OK") != 2 || !strings.Contains(string(got), "xxxxxxxxxx") {
		t.Errorf("answers %q, %v", got, err)
	}
	if n := c.of(CutNoBody) + c.of(CutNotRead); n != 0 {
		t.Errorf("%d were cut", n)
	}
}

// flood sends requests until the server takes no more, and reads no answer.
func flood(t *testing.T, addr string) net.Conn {
	t.Helper()
	nc := dialed(t, addr, "")
	_ = nc.(*net.TCPConn).SetReadBuffer(4096)
	asks := []byte(strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1000))
	for {
		_ = nc.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := nc.Write(asks); err != nil {
			return nc
		}
	}
}

// wordy answers with as much as the server's buffer holds, so that the handler does
// not wait for the reader.
func wordy(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, strings.Repeat("no", 1500), http.StatusUnauthorized)
}

// TestServe_AnswersThatAreNotReadAreCut sends many requests on one connection and
// reads no answer.
func TestServe_AnswersThatAreNotReadAreCut(t *testing.T) {
	var c cuts
	addr := served(t, Options{Bound: soon(10, &c), Handler: http.HandlerFunc(wordy)})
	flood(t, addr)
	until(t, "one counted", func() bool { return c.of(CutNotRead) == 1 })
}

// TestServe_HalfServedConnectionsAreBounded: who has asked, and then sends or reads
// nothing, does not get around the bound of those that wait.
func TestServe_HalfServedConnectionsAreBounded(t *testing.T) {
	t.Run("half a body", func(t *testing.T) {
		const limit, hostile = 10, 40
		var c cuts
		addr := served(t, Options{Bound: Bounded(limit, c.add), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			refusing(w, r)
		})})
		for range hostile {
			dialed(t, addr, halfBody)
		}
		until(t, "the oldest gone", func() bool { return c.of(CutFull) == hostile-limit })
		resp, err := http.Get("http://" + addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	})
	t.Run("no answer read", func(t *testing.T) {
		var c cuts
		addr := served(t, Options{Bound: Bounded(1, c.add), Handler: http.HandlerFunc(wordy)})
		flood(t, addr)
		dialed(t, addr, "")
		until(t, "the reader of nothing gone", func() bool { return c.of(CutFull) == 1 })
	})
}

// TestServe_UpgradesThatAreNotReadAreCut: who asks for a websocket behind answers that
// he does not read holds up the handler that gives it to him for a while only.
func TestServe_UpgradesThatAreNotReadAreCut(t *testing.T) {
	var c cuts
	ended := make(chan error, 1)
	addr := served(t, Options{Bound: soon(10, &c), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text := make([]byte, 1<<20)
		for { // the system takes a few of them
			if _, err := w.Write(text); err != nil {
				ended <- err
				return
			}
		}
	})})
	nc := dialed(t, addr, halfUpgrade+"x\r\n\r\n")
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the handler waits for the reader")
		nc.Close()
	}
}

// TestServe_BodiesThatDoNotComeOverHTTP2: the connection goes on, and it is counted.
func TestServe_BodiesThatDoNotComeOverHTTP2(t *testing.T) {
	var c cuts
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	s.EnableHTTP2 = true
	soon(10, &c)(s.Config, s.Listener)
	s.StartTLS()
	defer s.Close()
	body, sender := io.Pipe()
	defer sender.Close()
	resp, err := s.Client().Post(s.URL, "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusBadRequest || c.of(CutNoBody) != 1 {
		t.Errorf("%s: status %d, %d counted", resp.Proto, resp.StatusCode, c.of(CutNoBody))
	}
}
