package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/worktally/worktally/e2e/stack"
)

// floodSize is how many commands run at once.
const floodSize = 60

func TestFlood_TheBooksBalance(t *testing.T) {
	t.Parallel()
	flood(start(t, ticking))
}

// flood opens many sessions at once. At every moment, on both pages, each session
// that was opened is either open or ended.
func flood(w *world) {
	w.t.Helper()
	done, stopWatching := context.WithCancel(w.t.Context())
	var watcher, people sync.WaitGroup
	watcher.Go(func() {
		for done.Err() == nil {
			if err := w.balance(w.t.Context(), false); err != nil {
				w.t.Error(err)
				return
			}
			w.pause(50 * time.Millisecond)
		}
	})
	for i := range floodSize {
		people.Go(func() {
			ctx, cancel := context.WithTimeout(w.t.Context(), 2*patience)
			defer cancel()
			out, err := w.SSHCommand(ctx, w.agent.SSH.Addr(), fmt.Sprintf("echo %d", i)).CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(i) {
				w.t.Errorf("command %d: %q, %v", i, out, err)
			}
		})
	}
	people.Wait()
	stopWatching()
	watcher.Wait()
	w.write("hold", "")
	w.await(patience, "both pages, the proxy and the scripts agree", func(ctx context.Context) error { return w.compare(ctx, floodSize) })
	w.must(w.balance(w.t.Context(), true))
	page, err := w.agent.Metrics(w.t.Context())
	w.must(err)
	if n := page.Sum("agent_ssh_server_failed_connections_total") + page.Sum("agent_sessions_errors_total") + page.Sum("agent_dropped_total"); n != 0 {
		w.t.Errorf("%v things went wrong", n)
	}
}

// balance compares sessions opened with those that are open or ended, on each
// page for itself and, at rest, on both.
func (w *world) balance(ctx context.Context, rest bool) error {
	agent, server, err := stack.BothPages(ctx, w.agent, w.server)
	if err != nil {
		return err
	}
	var s same
	for name, p := range map[string]stack.Page{"agent": agent, "server": server} {
		opened, ended, open := p.Sum("agent_sessions_opened_total"), p.Sum("agent_sessions_ended_total"), p.Sum("agent_open_sessions")
		gauges := 0.0
		for _, family := range []string{"ssh", "vscode", "jetbrains", "reconnecting_pty"} {
			gauges += p.Sum("coderd_agentstats_session_count_" + family)
		}
		s.check("sessions opened minus ended on the "+name+"'s page", opened-ended, open, gauges)
		s.check("lengths of ended sessions on the "+name+"'s page", ended, p.Sum("agent_session_duration_seconds"))
		if rest {
			s.check("open sessions on the "+name+"'s page", 0, open)
			s.check("sessions opened on both pages", agent.Sum("agent_sessions_opened_total"), opened)
		}
	}
	return s.err()
}
