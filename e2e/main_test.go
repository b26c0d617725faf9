// Package e2e tests the two programs as users run them: the real binaries, real
// OpenSSH clients, a real Prometheus, on loopback.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/worktally/worktally/internal/pgtest"
	"github.com/worktally/worktally/internal/testtool"
)

var (
	// bin is where the programs are that TestMain built.
	bin string
	// postgres is started by the first test that wants it.
	postgres pgtest.Cluster
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if err := os.Unsetenv("SSH_AUTH_SOCK"); err != nil {
		panic(err)
	}
	// The tests mostly wait for what happens by the clock, so that more of them
	// than there are processors run side by side.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "e2e-bin")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	bin = dir
	// As the Makefile builds them, so that the cache has them.
	if err := build(dir, []string{"CGO_ENABLED=0"}, "-trimpath", "-ldflags", "-s -w"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	postgres.Stop()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	return testtool.Leaks(code)
}

// build builds both programs into a directory.
func build(dir string, env []string, flags ...string) error {
	for program, source := range map[string]string{"worktally-agent": "../cmd/agent", "worktally": "../cmd/worktally"} {
		args := append(append([]string{"build"}, flags...), "-o", filepath.Join(dir, program), source)
		cmd := exec.CommandContext(context.Background(), "go", args...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", program, err, out)
		}
	}
	return nil
}
