package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/internal/testtool"
)

const (
	// interval is how often agents report in tests, the shortest there is.
	interval = time.Second
	// patience is how long anything may take that has no limit of its own.
	patience = time.Minute
)

// world is a server and, mostly, an agent.
type world struct {
	*stack.Stack
	t      *testing.T
	server *stack.Server
	agent  *stack.Agent
	token  string // the agent's
	// expected are complaints in the logs that the test brings about.
	expected []string
	// spoiled says that the programs need not end well.
	spoiled bool
}

// newWorld makes one in which nothing runs.
func newWorld(t *testing.T) *world {
	t.Helper()
	for _, tool := range []string{"ssh", "ssh-keygen"} {
		testtool.Find(t, tool)
	}
	// A short path, because there will be a unix socket in it.
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	s, err := stack.New(t.Context(), dir, bin)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Stack: s, t: t}
	w.write("notes", "")
	w.Env = []string{"E2E=" + w.Dir}
	t.Cleanup(func() { w.end() })
	return w
}

// end stops everything, looks into the logs, and shows them if the test failed.
func (w *world) end() {
	if err := w.Close(); err != nil && !w.spoiled {
		w.t.Error(err)
	}
	logs, err := filepath.Glob(w.Path("*.log"))
	if err != nil {
		w.t.Error(err)
	}
	for _, log := range logs {
		w.checkLog(log)
	}
	if w.t.Failed() {
		for _, log := range logs {
			text, _ := os.ReadFile(log)
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			w.t.Logf("the end of %s:\n%s", filepath.Base(log), strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
	}
	if err := os.RemoveAll(w.Dir); err != nil {
		w.t.Error(err)
	}
}

var alarming = regexp.MustCompile(`level=ERROR|panic|BUG:|DATA RACE|fatal error`)

// checkLog: whatever a test does to the programs, no human has to act.
func (w *world) checkLog(log string) {
	text, err := os.ReadFile(log)
	if err != nil {
		w.t.Error(err)
	}
	for line := range strings.Lines(string(text)) {
		known := slices.ContainsFunc(w.expected, func(e string) bool { return strings.Contains(line, e) })
		if alarming.MatchString(line) && !known {
			w.t.Errorf("%s: %s", filepath.Base(log), strings.TrimSpace(line))
		}
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// write writes a file of the world.
func (w *world) write(name, text string) (path string) {
	w.t.Helper()
	if err := os.WriteFile(w.Path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return w.Path(name)
}

// startServer starts the server with everything on its page.
func (w *world) startServer(args ...string) {
	w.t.Helper()
	var err error
	w.server, err = w.StartServer(w.t.Context(), interval, args...)
	w.must(err)
}

// spec is a workspace with one agent "main" and what is given below it, indented
// by four.
func spec(name, below string) string {
	return "name: " + name + "\ntemplate: {name: tmpl, version: \"1\"}\nagents:\n  - name: main\n" + below
}

// apply creates a workspace and keeps its token.
func (w *world) apply(yaml string) {
	w.t.Helper()
	var err error
	w.token, err = w.server.Apply(w.t.Context(), w.write("workspace.yaml", yaml))
	w.must(err)
}

func (w *world) startAgent(args ...string) {
	w.t.Helper()
	var err error
	w.agent, err = w.StartAgent(w.t.Context(), "worktally-agent", w.server.URL(), w.token, args...)
	w.must(err)
}

// start makes a world in which everything runs.
func start(t *testing.T, below string) *world {
	t.Helper()
	w := newWorld(t)
	w.startServer()
	w.apply(spec("ws", below))
	w.startAgent()
	return w
}

// await fails the test if something does not come true in time.
func (w *world) await(limit time.Duration, what string, try func(context.Context) error) {
	w.t.Helper()
	if err := stack.Await(w.t.Context(), limit, func() error { return try(w.t.Context()) }); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// awaitPage waits until a condition holds on the server's page.
func (w *world) awaitPage(limit time.Duration, what string, ok func(stack.Page) bool) {
	w.t.Helper()
	w.await(limit, what, func(ctx context.Context) error {
		p, err := w.server.Metrics(ctx)
		if err != nil {
			return err
		}
		if !ok(p) {
			return errors.New("it is not so on the server's page")
		}
		return nil
	})
}

// awaitReport waits for a report that is committed after the call.
func (w *world) awaitReport() {
	w.t.Helper()
	before := -1.0
	w.awaitPage(patience, "another report", func(p stack.Page) bool {
		n := p.Sum("worktally_reports_total", `result="ok"`)
		if before < 0 || n < before {
			before = n
		}
		return n > before
	})
}

// notes are what the scripts wrote down about themselves.
type notes struct{ ok, failed int }

func (w *world) notes() (notes, error) {
	text, err := os.ReadFile(w.Path("notes"))
	return notes{strings.Count(string(text), "true\n"), strings.Count(string(text), "false\n")}, err
}

// same collects differences between what should be and what a page says.
type same struct{ errs []error }

func (s *same) check(what string, want float64, got ...float64) {
	for _, g := range got {
		if g != want {
			s.errs = append(s.errs, fmt.Errorf("%s: %v, not %v", what, got, want))
			return
		}
	}
}

func (s *same) err() error { return errors.Join(s.errs...) }
