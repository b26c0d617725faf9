package reportclient

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/worktally/worktally/wire/wiretest"
)

func TestReinit_EventAfterPings(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{Reinit: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("wait") != "true" {
			http.Error(w, "no wait", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "event: ping\n\nevent: ping\n\n")
		w.(http.Flusher).Flush()
		fmt.Fprint(w, "event: data\ndata: {\"WorkspaceID\":\"x\",\"workspace_id\":\"x\",\"reason\":\"prebuild_claimed\"}\n\n")
	}})
	reasons := make(chan string, 10)
	connect(t, s, func(o *Options) { o.OnReinit = func(reason string) { reasons <- reason } })
	select {
	case reason := <-reasons:
		if reason != "prebuild_claimed" {
			t.Errorf("reason %q", reason)
		}
	case <-time.After(time.Minute):
		t.Fatal("nobody was told")
	}
	s.WaitCalls(t, "UpdateStartup", 1)
	if len(reasons) != 0 {
		t.Error("told twice")
	}
}

// TestReinit_Answers: 409 ends the polling, everything else is asked again.
func TestReinit_Answers(t *testing.T) {
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		again   bool
	}{
		{"conflict", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) }, false},
		{"unauthorized", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, true},
		{"not found", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, true},
		{"empty stream", func(http.ResponseWriter, *http.Request) {}, true},
		{"garbage", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "event: data\ndata: {{{\n\n") }, true},
		{"endless line", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, io.LimitReader(zeros{}, 10<<20))
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var asked atomic.Int64
			s := wiretest.Start(t, wiretest.Options{Reinit: func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				tc.handler(w, r)
			}})
			var log logBuffer
			_, stop := connect(t, s, func(o *Options) {
				o.Log, o.OnReinit = log.logger(), func(string) { t.Error("told to start over") }
			})
			deadline := time.Now().Add(time.Minute)
			enough := func() bool {
				if tc.again {
					return asked.Load() >= 3
				}
				return strings.Contains(log.String(), "not listening for reinitialisation")
			}
			for !enough() {
				if time.Now().After(deadline) {
					t.Fatalf("asked %d times", asked.Load())
				}
				time.Sleep(time.Millisecond)
			}
			stop()
			if !tc.again && asked.Load() != 1 {
				t.Errorf("asked %d times", asked.Load())
			}
			if strings.Contains(log.String(), wiretest.Token) {
				t.Error("the token is in the log")
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestReadReinit(t *testing.T) {
	for _, tc := range []struct {
		name, stream, reason string
		err                  error
	}{
		{"carriage returns and a comment", "event: ping\r\n\r\nevent: data\r\n: comment\r\ndata: {\"reason\":\"r\"}\r\n\r\n", "r", nil},
		{"without blanks", "event:data\ndata:{\"reason\":\"r\"}\n\n", "r", nil},
		{"data of another event", "event: data\n\nevent: other\ndata: {\"reason\":\"r\"}\n\n", "", io.EOF},
		{"end in the middle", "event: data\n", "", io.EOF},
		{"an object without a reason", "event: data\ndata: {}\n", "", nil},
	} {
		reason, err := readReinit(strings.NewReader(tc.stream))
		if reason != tc.reason || !errors.Is(err, tc.err) {
			t.Errorf("%s: %q, %v", tc.name, reason, err)
		}
	}
}

// FuzzReadReinit: whatever a server streams, reading ends and nothing panics.
func FuzzReadReinit(f *testing.F) {
	f.Add("event: ping\n\nevent: data\ndata: {\"reason\":\"prebuild_claimed\"}\n\n")
	f.Add("event: data\ndata: null\n")
	f.Add("data: {}\n:\n\n\x00")
	f.Fuzz(func(t *testing.T, stream string) {
		reason, err := readReinit(strings.NewReader(stream))
		if err != nil && reason != "" {
			t.Errorf("both %q and %v", reason, err)
		}
		if err == nil && !strings.Contains(stream, "data") {
			t.Errorf("an event out of %q", stream)
		}
	})
}
