//go:build race

package e2e

import (
	"testing"

	"github.com/worktally/worktally/internal/testtool"
)

// TestRace_BothPrograms runs programs that watch themselves for data races. It is
// built only where the tests are, so that the compiler's cache has most of it.
func TestRace_BothPrograms(t *testing.T) {
	t.Parallel()
	testtool.Find(t, "gcc", "cc")
	w := newWorld(t)
	dir := t.TempDir()
	w.must(build(dir, []string{"CGO_ENABLED=1"}, "-race"))
	w.Bin = dir
	w.Env = append(w.Env, "GORACE=halt_on_error=0 exitcode=66") // a race is seen in the log and at the end
	w.startServer()
	w.apply(spec("ws", ticking))
	w.startAgent()
	h := w.hold()
	w.awaitReport()
	w.must(w.oneCommandOf(200_000))
	w.server.Kill()
	w.must(w.server.Start(t.Context()))
	w.awaitReport()
	h.end(w)
}
