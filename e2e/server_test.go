package e2e

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/worktally/worktally/e2e/stack"
)

func TestServer_FirstTokenIsPrintedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startServer()
	first := w.read(w.server.Out)
	if !regexp.MustCompile(`^first user admin was created; .*\n\S{20,}\n$`).MatchString(first) {
		t.Errorf("the first start printed %q", first)
	}
	if strings.Contains(w.read(w.server.Log), w.server.Token) {
		t.Error("the token is in the log")
	}
	w.must(w.server.Stop(patience))
	w.must(w.server.Start(t.Context()))
	if all := w.read(w.server.Out); all != first {
		t.Errorf("the second start printed %q", strings.TrimPrefix(all, first))
	}
	if users := w.cli("user", "list"); !strings.Contains(users, "admin") {
		t.Errorf("users: %s", users)
	}
}

func TestServer_RefusesWhatItDoesNotHonour(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.spoiled = true
	p, err := w.Start("worktally", []string{"CODER_TLS_ENABLE=true", "CODER_BROWSER_ONLY=true"}, "worktally", "server", "--state-dir", w.Path("server"), "--http-address", w.freeAddress())
	w.must(err)
	w.await(patience, "the server refuses to start", func(context.Context) error {
		if !p.Exited() {
			return errors.New("it runs")
		}
		return nil
	})
	log := w.read(p.Log)
	if p.ExitCode() != 2 || !strings.Contains(log, "CODER_TLS_ENABLE") || !strings.Contains(log, "CODER_BROWSER_ONLY") {
		t.Errorf("exit code %d: %s", p.ExitCode(), log)
	}
	if _, err := os.Stat(w.Path("server")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it left a state directory: %v", err)
	}
}

func TestServer_MetricsAreOffByDefault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	address := w.freeAddress()
	p, err := w.Start("worktally", nil, "worktally", "server", "--state-dir", w.Path("server"), "--http-address", address)
	w.must(err)
	w.await(patience, "the server serves", func(ctx context.Context) error {
		_, err := stack.Get(ctx, "http://"+address+"/api/v2/buildinfo")
		return err
	})
	if got := w.listening(p); !slices.Equal(got, []string{address}) {
		t.Errorf("the server listens on %v, not on %s alone", got, address)
	}
}

func TestServer_CollectsOnlyIfAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	page := w.freeAddress()
	// The names of the reference do the same as ours.
	w.Env = append(w.Env, "CODER_PROMETHEUS_ENABLE=true", "CODER_PROMETHEUS_ADDRESS="+page, "CODER_AGENT_STATS_REFRESH_INTERVAL=1s")
	w.server = w.NewServer(page)
	w.must(w.server.Start(t.Context()))
	w.apply(spec("ws", ticking))
	w.startAgent()
	w.awaitReport()
	var p stack.Page
	w.awaitPage(patience, "the agent is up", func(now stack.Page) bool { p = now; return p.Sum("coderd_agents_up") == 1 })
	for key := range p {
		if strings.HasPrefix(key, "coderd_agentstats_") || strings.HasPrefix(key, "agent_") || strings.HasPrefix(key, "worktally_workspace_") {
			t.Errorf("%s is there without --prometheus-collect-agent-stats", key)
		}
	}
	if a, err := w.agent.Metrics(t.Context()); err != nil || !a.Has("coderd_agentstats_session_count_ssh") {
		t.Errorf("the agent's page always has them: %v", err)
	}
	w.must(w.server.Stop(patience))
	w.server.Env = []string{"CODER_PROMETHEUS_COLLECT_AGENT_STATS=true"}
	w.must(w.server.Start(t.Context()))
	w.awaitPage(patience, "what agents report", func(p stack.Page) bool {
		return p.Has("coderd_agentstats_session_count_ssh") && p.Sum("agent_scripts_executed_total") > 0
	})
}
