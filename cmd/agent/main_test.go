//go:build unix

package main

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/wire/wiretest"
)

// asProgram makes the test binary behave as the program, for tests that need a
// process of its own.
const asProgram = "WORKTALLY_AGENT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	testtool.Main(m)
}

// world is a process without the process.
type world struct {
	t              *testing.T
	env            map[string]string
	signals        chan os.Signal
	stdout, stderr testtool.Buffer
	stateDir       string
	logDir         string
}

// newWorld has an environment that keeps an agent of the server away from
// everything else on the machine; s may be nil.
func newWorld(t *testing.T, s *wiretest.Server) *world {
	t.Helper()
	w := &world{t: t, signals: make(chan os.Signal, 8), stateDir: t.TempDir(), logDir: t.TempDir()}
	w.env = map[string]string{
		"HOME": t.TempDir(), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh",
		"WORKTALLY_AGENT_STATE_DIR": w.stateDir, "CODER_AGENT_LOG_DIR": w.logDir, "CODER_AGENT_SCRIPT_DATA_DIR": t.TempDir(),
		"CODER_AGENT_PROMETHEUS_ADDRESS": "127.0.0.1:0",
	}
	if s != nil {
		w.env["CODER_AGENT_URL"], w.env["CODER_AGENT_TOKEN"] = s.URL.String(), wiretest.Token
	}
	return w
}

func (w *world) environ() []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(w.env)) {
		list = append(list, k+"="+w.env[k])
	}
	return list
}

func (w *world) process(args ...string) process {
	return process{
		args: args, getenv: func(k string) string { return w.env[k] }, environ: w.environ,
		stdin: strings.NewReader(""), stdout: &w.stdout, stderr: &w.stderr, signals: w.signals,
	}
}

// start runs the program; the returned function waits for its exit code.
func (w *world) start(args ...string) (wait func() int) {
	w.t.Helper()
	codes := make(chan int, 1)
	go func() { codes <- run(context.Background(), w.process(args...)) }()
	var once sync.Once
	code := -1
	wait = func() int {
		once.Do(func() {
			select {
			case code = <-codes:
			case <-time.After(patience):
				w.t.Fatalf("the program goes on; stderr:\n%s", w.stderr.String())
			}
		})
		return code
	}
	return wait
}

// stop asks the program to stop, and wants it to exit 0.
func (w *world) stop(wait func() int) {
	w.t.Helper()
	w.signals <- syscall.SIGTERM
	if code := wait(); code != 0 {
		w.t.Errorf("exit code %d; stderr:\n%s", code, w.stderr.String())
	}
}

const patience = time.Minute

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}
