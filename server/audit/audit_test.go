package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func value(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// lines reads the file; a line that is no event is an empty one.
func lines(t *testing.T, path string) (all []Event) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var e Event
		if json.Unmarshal(line, &e) != nil {
			e = Event{}
		}
		all = append(all, e)
	}
	return all
}

// TestLog: what was recorded before the end is in the file, only its owner can read
// it, and nothing from outside can break or swell a line.
func TestLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit", "log")
	l, err := Open(Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for _, name := range events() {
		l.Record(Event{Name: name, User: "ann\n{\"event\":\"x\"}", Reason: strings.Repeat("ü", 1000)})
	}
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	got := lines(t, path)
	if len(got) != len(events()) {
		t.Fatalf("%d lines for %d events", len(got), len(events()))
	}
	for i, name := range events() {
		if e := got[i]; e.Name != name || time.Since(e.Time) > time.Minute || len(e.Reason) != maxField || e.User != "ann\n{\"event\":\"x\"}" {
			t.Errorf("line %d: %+v", i, e)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	var none *Log
	none.Record(Event{Name: UserCreated})
}

// TestLog_QueueIsBounded: a file that takes nothing holds nobody up.
func TestLog_QueueIsBounded(t *testing.T) {
	l, err := Open(Options{Path: filepath.Join(t.TempDir(), "log")}) // nothing writes it: it is not run
	if err != nil {
		t.Fatal(err)
	}
	for range queueLimit + 7 {
		l.Record(Event{Name: UserCreated})
	}
	if n, all := value(t, l.dropped), value(t, l.events.WithLabelValues(UserCreated)); n != 7 || all != queueLimit+7 {
		t.Errorf("%v of %v events were dropped", n, all)
	}
}

// TestLog_SourcesAreBounded: who fails to log in again and again, and an agent that
// comes and goes or makes connections up, rotate nobody else's events away.
func TestLog_SourcesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(Options{Path: filepath.Join(t.TempDir(), "log")})
		if err != nil {
			t.Fatal(err)
		}
		record := func(e Event, n, want int) {
			t.Helper()
			before, dropped := len(l.queue), value(t, l.dropped)
			for range n {
				l.Record(e)
			}
			if got := len(l.queue) - before; got != want || value(t, l.dropped)-dropped != float64(n-want) {
				t.Errorf("%s: %d of %d are written, want %d; %v are dropped", e.Name, got, n, want, value(t, l.dropped)-dropped)
			}
		}
		record(Event{Name: LoginFailed, Address: "192.0.2.1:1"}, sourceBurst+200, sourceBurst)
		record(Event{Name: LoginFailed, Address: "192.0.2.2:1"}, 1, 0)
		time.Sleep(5 * sourceEvery)
		record(Event{Name: LoginFailed}, 100, 5)
		record(Event{Name: ConnectionOpened, Workspace: "bad"}, sourceBurst/2, sourceBurst/2)
		record(Event{Name: ConnectionClosed, Workspace: "bad"}, sourceBurst, sourceBurst/2)
		record(Event{Name: AgentConnected, Workspace: "bad"}, 7, 7)
		record(Event{Name: ConnectionOpened, Workspace: "good"}, 7, 7)
		record(Event{Name: WorkspaceChanged, Workspace: "bad"}, sourceBurst+7, sourceBurst+7)
		if all := value(t, l.events.WithLabelValues(LoginFailed)); all != sourceBurst+301 {
			t.Errorf("%v are counted", all)
		}
	})
}

// TestLog_FullDisk: events are dropped and counted while the disk is full.
func TestLog_FullDisk(t *testing.T) {
	l, err := Open(Options{Path: "/dev/full"})
	if err != nil {
		t.Skip(err)
	}
	for range 5 {
		l.Record(Event{Name: UserCreated})
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if n := value(t, l.dropped); n != 5 {
		t.Errorf("%v events were dropped", n)
	}
}

// short writes a part of every line and fails.
type short struct{ io.WriteCloser }

func (s short) Write(p []byte) (int, error) {
	n, _ := s.WriteCloser.Write(p[:len(p)/2])
	return n, errors.New("no space left on device")
}

// TestLog_TornLine: after a line of which a part was written the next one is whole.
func TestLog_TornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := Open(Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.open(); err != nil {
		t.Fatal(err)
	}
	l.file = short{l.file}
	if err := l.put(Event{Name: UserCreated}); err == nil {
		t.Fatal("no error")
	}
	if err := l.put(Event{Name: UserDeleted}); err != nil {
		t.Fatal(err)
	}
	defer l.file.Close()
	if got := lines(t, path); len(got) != 2 || got[0].Name != "" || got[1].Name != UserDeleted {
		t.Errorf("%+v", got)
	}
}
