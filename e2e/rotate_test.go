package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/worktally/worktally/e2e/stack"
)

// TestRotateToken_Grace: a session goes on with the token that was replaced, and a new
// one may begin with it, until the grace ends; then both have ended, on the server that
// was asked and on another one.
func TestRotateToken_Grace(t *testing.T) {
	t.Parallel()
	for name, replicas := range map[string]int{"one server": 1, "on another replica": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			asked := w.startServers(replicas)
			w.apply(spec("ws", ""))
			w.startAgent()
			w.awaitReport()
			oldest := w.token
			rotate := func(grace string) string {
				out, err := asked.CLI(t.Context(), "workspace", "rotate-token", "ws", "--grace", grace)
				w.must(err)
				return strings.TrimSpace(out)
			}
			second := rotate("1h")
			w.awaitReport()
			w.staysConnected()
			if status := w.knock(oldest); status == http.StatusUnauthorized {
				t.Errorf("the old token within the grace: %d", status)
			}
			// The second rotation ends the oldest token, and its session, at once.
			rotate("1h")
			w.awaitRefused()
			if status := w.knock(oldest); status != http.StatusUnauthorized {
				t.Errorf("the oldest token: %d", status)
			}
			w.must(w.agent.SetToken(second))
			w.awaitConnected()
			w.awaitReport()
			third := rotate("4s") // the one before it, which the agent does not have, ends
			w.awaitRefused()
			w.must(w.agent.SetToken(third))
			w.awaitConnected()
			// Nothing but the clock ends the session of this one.
			const grace = 10 * time.Second
			began := time.Now()
			rotate(grace.String())
			w.awaitReport()
			if err := w.connected(t.Context()); err != nil && time.Since(began) < grace {
				t.Errorf("within the grace: %v", err)
			}
			w.awaitRefused()
			if status := w.knock(third); status != http.StatusUnauthorized {
				t.Errorf("the token after its grace: %d", status)
			}
		})
	}
}

// startServers starts servers on one database and returns the last one.
func (w *world) startServers(n int) *stack.Server {
	if n == 1 {
		w.startServer()
		return w.server
	}
	return w.startReplicas(n)[n-1]
}

func (w *world) connected(ctx context.Context) error {
	p, err := w.agent.Metrics(ctx)
	if err == nil && p.Sum("agent_connected") != 1 {
		err = errors.New("it is not connected")
	}
	return err
}

func (w *world) staysConnected() {
	w.t.Helper()
	if err := w.connected(w.t.Context()); err != nil {
		w.t.Error(err)
	}
	if p, err := w.server.Metrics(w.t.Context()); err != nil || p.Sum("worktally_agent_rejected_total", `reason="unknown_token"`) > 0 && p.Sum("worktally_agent_sessions") == 0 {
		w.t.Errorf("the agent was sent away: %v", err)
	}
}

func (w *world) awaitConnected() {
	w.t.Helper()
	w.await(patience, "the agent is connected", w.connected)
}

// TestRotateToken_OfAPersonElsewhere: who holds a session on another server than the
// one where the token was replaced loses it.
func TestRotateToken_OfAPersonElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.startReplicas(2)[1]
	w.apply(spec("ws", ""))
	w.startAgent()
	w.awaitReport()
	token, err := w.server.CLI(t.Context(), "user", "create", "kim", "--admin")
	w.must(err)
	cmd := w.server.Command(t.Context(), "ssh", "admin/ws", "--", "sleep 60")
	cmd.Env = append(cmd.Env, "WORKTALLY_TOKEN="+strings.TrimSpace(token))
	w.must(cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	defer func() { _ = cmd.Process.Kill(); <-ended }()
	sessions := func(n float64) func(stack.Page) bool {
		return func(p stack.Page) bool { return p.Sum("worktally_client_sessions") == n }
	}
	w.awaitPage(patience, "the person is there", sessions(1))
	_, err = other.CLI(t.Context(), "user", "rotate-token", "kim")
	w.must(err)
	w.awaitPage(soon, fmt.Sprintf("the session has ended %s after the token", soon), sessions(0))
}
