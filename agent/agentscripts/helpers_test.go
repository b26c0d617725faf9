package agentscripts

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/testtool"
)

func TestMain(m *testing.M) {
	testtool.MindHangUps()
	testtool.Main(m)
}

type line struct {
	Level slog.Level
	Text  string
}

// recorder is the sink and the tally of a test, and takes the log.
type recorder struct {
	mu       sync.Mutex
	lines    map[uuid.UUID][]line
	timings  []Timing
	runs     []stats.ScriptRun
	overlaps int
	startup  *stats.Startup
	dropped  int
	log      strings.Builder
}

func (r *recorder) Line(source uuid.UUID, _ time.Time, level slog.Level, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lines == nil {
		r.lines = make(map[uuid.UUID][]line)
	}
	r.lines[source] = append(r.lines[source], line{level, text})
}

func (r *recorder) Completed(t Timing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timings = append(r.timings, t)
}

func (r *recorder) ScriptRan(s stats.ScriptRun) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs = append(r.runs, s)
}

func (r *recorder) ScriptOverlapped() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.overlaps++
}

func (r *recorder) StartPhaseEnded(s stats.Startup) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.startup = &s
}

func (r *recorder) Drop(d stats.Dropped, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d == stats.DropScriptOutput {
		r.dropped += n
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func (r *recorder) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

func (r *recorder) overlapped() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.overlaps
}

func (r *recorder) linesOf(s Script) []line {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines[s.LogSourceID])
}

// timing returns the only timing of the script.
func (r *recorder) timing(t *testing.T, s Script) Timing {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Timing
	for _, tm := range r.timings {
		if tm.ScriptID == s.ID {
			found = append(found, tm)
		}
	}
	if len(found) != 1 {
		t.Fatalf("script %s has %d timings, want 1", s.DisplayName, len(found))
	}
	if found[0].End.Before(found[0].Start) {
		t.Errorf("script %s ends before it starts", s.DisplayName)
	}
	return found[0]
}

// statuses returns the statuses of the counted runs, in order of their end.
func (r *recorder) statuses() []stats.ScriptStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []stats.ScriptStatus
	for _, run := range r.runs {
		out = append(out, run.Status)
	}
	return out
}

func newScript(name, text string) Script {
	return Script{ID: uuid.New(), LogSourceID: uuid.New(), DisplayName: name, Script: text, RunOnStart: true}
}

func newRunner(t *testing.T, change func(*Options)) (*Runner, *recorder) {
	t.Helper()
	rec := &recorder{}
	commands, err := agentexec.New(agentexec.Options{Home: t.TempDir(), Shell: "/bin/sh"})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Log: slog.New(slog.NewTextHandler(rec, nil)), Commands: commands, Tally: rec, Sink: rec,
		LogDir: t.TempDir(), DataDir: t.TempDir(),
	}
	if change != nil {
		change(&o)
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r, rec
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("still missing after a minute: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

var errTest = errors.New("no command today")
