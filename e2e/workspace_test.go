package e2e

import (
	"context"
	"errors"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/wire"
)

func (w *world) read(path string) string {
	w.t.Helper()
	text, err := os.ReadFile(path)
	w.must(err)
	return string(text)
}

// cli runs a command that must work.
func (w *world) cli(args ...string) string {
	w.t.Helper()
	out, err := w.server.CLI(w.t.Context(), args...)
	w.must(err)
	return out
}

const badWorkspace = `name: ws
template: {name: other}
agents:
  - name: main
    scripts:
      - name: tick
        cron: "61 * * * * *"
        script: "true"
      - name: greet
        on: sometimes
        script: "true"
  - name: second
    colour: red
`

func TestWorkspace_BadYAMLIsRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startServer()
	w.apply(spec("ws", ticking))
	before := w.cli("workspace", "list", "-o", "json")
	file := w.write("bad.yaml", badWorkspace)
	_, err := w.server.CLI(t.Context(), "workspace", "apply", "-f", file)
	if err == nil {
		t.Fatal("it was taken")
	}
	_, complaint, _ := strings.Cut(err.Error(), "exit status 1: ")
	var places []string
	for line := range strings.Lines(complaint) {
		m := regexp.MustCompile(`^worktally: ` + regexp.QuoteMeta(file) + `:(\d+): ([^: ]+): \S.*\n?$`).FindStringSubmatch(line)
		if m == nil {
			t.Errorf("%q does not say file, line, field and reason", line)
			continue
		}
		places = append(places, m[1]+" "+m[2])
	}
	want := []string{"7 agents[0].scripts[0].cron", "10 agents[0].scripts[1].on", "13 agents[1].colour"}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, w.cli("workspace", "list", "-o", "json")); diff != "" {
		t.Errorf("something was applied (-before +after):\n%s", diff)
	}
}

func TestWorkspace_RotatedTokenEndsTheSession(t *testing.T) {
	t.Parallel()
	w := start(t, ticking)
	w.awaitReport()
	h := w.hold()
	fresh := strings.TrimSpace(w.cli("workspace", "rotate-token", "ws", "--grace", "0"))
	if fresh == w.token || fresh == "" {
		t.Fatalf("the new token is %q", fresh)
	}
	w.awaitRefused()
	if status := w.knock(w.token); status != http.StatusUnauthorized {
		t.Errorf("the old token: %d", status)
	}
	w.must(w.agent.SetToken(fresh))
	w.await(patience, "the agent is back with the new token, without a restart", func(ctx context.Context) error {
		p, err := w.agent.Metrics(ctx)
		if err == nil && p.Sum("agent_connected") != 1 {
			err = errors.New("it is not connected")
		}
		return err
	})
	// Nothing was lost meanwhile, neither the session nor a count.
	opened := h.end(w)
	w.write("hold", "")
	w.await(patience, "both pages agree", func(ctx context.Context) error { return w.compare(ctx, float64(opened)) })
	w.must(os.Remove(w.Path("hold")))
}

// awaitRefused waits until the agent was sent away because of its token.
func (w *world) awaitRefused() {
	w.t.Helper()
	w.await(patience, "the agent is sent away", func(ctx context.Context) error {
		p, err := w.agent.Metrics(ctx)
		if err == nil && (p.Sum("agent_connected") != 0 || !strings.Contains(w.read(w.agent.Log), "401 Unauthorized")) {
			err = errors.New("it is connected, or its log does not say 401")
		}
		return err
	})
}

// knock asks for a session with a token.
func (w *world) knock(token string) (status int) {
	w.t.Helper()
	status, _, _, err := fetch(w.t.Context(), http.DefaultClient, "http://"+w.server.Address+"/api/v2/workspaceagents/me/rpc?version=2.0",
		func(r *http.Request) { r.Header.Set(wire.TokenHeader, token) })
	w.must(err)
	return status
}

func TestWorkspace_DeletedEndsAtOnce(t *testing.T) {
	t.Parallel()
	w := start(t, ticking)
	w.awaitPage(patience, "a script", func(p stack.Page) bool {
		return p.Sum("agent_scripts_executed_total") > 0 && p.Sum("worktally_workspace_scripts_total") > 0 && p.Sum("coderd_agents_up") == 1
	})
	before, err := w.server.Metrics(t.Context())
	w.must(err)
	w.cli("workspace", "delete", "ws")
	after, err := w.server.Metrics(t.Context())
	w.must(err)
	for key := range after {
		if strings.Contains(key, `workspace_name="ws"`) && !strings.HasPrefix(key, "coderd_agents_") {
			t.Errorf("%s is still there", key)
		}
	}
	// The states are read again, which takes a moment; no other report may come.
	w.awaitPage(soon, "no series of the workspace", func(p stack.Page) bool {
		for key := range p {
			if strings.Contains(key, `workspace_name="ws"`) {
				return false
			}
		}
		return true
	})
	w.awaitRefused()
	if status := w.knock(w.token); status != http.StatusUnauthorized {
		t.Errorf("the token of a deleted workspace: %d", status)
	}
	for _, name := range []string{"worktally_workspace_scripts_total", "worktally_workspace_bytes_total"} {
		if got := after.Sum(name); got < before.Sum(name) {
			t.Errorf("%s fell from %v to %v", name, before.Sum(name), got)
		}
	}
	w.must(w.server.Stop(patience))
	w.must(w.server.Start(t.Context()))
	if p, err := w.server.Metrics(t.Context()); err != nil || p.Sum("worktally_workspace_scripts_total") < before.Sum("worktally_workspace_scripts_total") {
		t.Errorf("after a restart the deployment has %v scripts, there were %v (%v)",
			p.Sum("worktally_workspace_scripts_total"), before.Sum("worktally_workspace_scripts_total"), err)
	}
	w.agent.Kill() // it has nobody to say goodbye to, which takes a while
}
