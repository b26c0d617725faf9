package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/worktally/worktally/e2e/stack"
)

// Defect 10.7: three servers on one database, and an agent that moves between them.
// Each agent is on the page of exactly one of them, and what all of them show is the
// same, so that sum over the first and any one of the second are right.
func TestDefect10_7_ThreeReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	replicas := w.startReplicas(3)
	w.apply(spec("ws", ""))
	network := w.network(replicas[0].Address, 0)
	var err error
	w.agent, err = w.StartAgent(t.Context(), "worktally-agent", network.URL(), w.token)
	w.must(err)
	h := w.hold()
	for _, at := range []int{0, 1, 2, 0, 2} {
		network.Lead(replicas[at].Address)
		w.await(patience, fmt.Sprintf("the agent is on replica %d alone", at), func(ctx context.Context) error {
			return w.onlyOn(ctx, replicas, at)
		})
	}
	// One that dies takes its agents' series along; they are on the next one.
	replicas[2].Kill()
	network.Lead(replicas[1].Address)
	w.await(patience, "the agent is on replica 1 alone", func(ctx context.Context) error { return w.onlyOn(ctx, replicas[:2], 1) })
	// And one that begins shows nothing that another one has, not even at first.
	w.must(replicas[2].Start(t.Context()))
	w.must(w.onlyOn(t.Context(), replicas[2:], -1))
	w.await(patience, "all say the same", func(ctx context.Context) error { return w.onlyOn(ctx, replicas, 1) })
	h.end(w)
}

// TestReplicas_AMoveHidesNothing: an agent that moves is on the page of the server that
// it moves to before it reports there.
func TestReplicas_AMoveHidesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	replicas := w.startReplicas(2, "--agent-stats-refresh-interval=30s")
	w.apply(spec("ws", ""))
	network := w.network(replicas[0].Address, 0)
	var err error
	w.agent, err = w.StartAgent(t.Context(), "worktally-agent", network.URL(), w.token)
	w.must(err)
	w.awaitPage(2*patience, "the first report", func(p stack.Page) bool { return p.Has(sshGauge) })
	network.Lead(replicas[1].Address)
	w.await(patience, "the agent is on replica 1 alone", func(ctx context.Context) error {
		there, err := stack.ReadPath(ctx, replicas[1].Page, "/metrics/replica")
		if err != nil {
			return err
		}
		if there.Sum("worktally_reports_total", `result="ok"`) > 0 {
			return nil // its moment after a reconnect is random, and was too early to see anything
		}
		here, err := stack.ReadPath(ctx, replicas[0].Page, "/metrics/replica")
		if err != nil {
			return err
		}
		if here.Has(sshGauge) || !there.Has(sshGauge) {
			return fmt.Errorf("replica 0 shows it: %t, replica 1: %t", here.Has(sshGauge), there.Has(sshGauge))
		}
		return nil
	})
}

// startReplicas starts servers on one database; the first is the world's.
func (w *world) startReplicas(n int, args ...string) []*stack.Server {
	w.t.Helper()
	w.Env = append(w.Env, "WORKTALLY_DATABASE_URL="+postgres.DSN(w.t))
	secrets := w.write("secrets-key", strings.Repeat("k", 32))
	w.startServer(append(args, "--state-dir", w.Path("replica-0"), "--secrets-key-file", secrets)...)
	replicas := []*stack.Server{w.server}
	for i := 1; i < n; i++ {
		r, err := w.StartServer(w.t.Context(), interval, append(args, "--state-dir", w.Path(fmt.Sprint("replica-", i)), "--secrets-key-file", secrets)...)
		w.must(err)
		replicas = append(replicas, r)
	}
	return replicas
}

// TestReplicas_ChangeOnAnother: a workspace that is renamed or deleted on one server
// loses its old series on the one that has its agent, at once, and its agent the
// right to be there.
func TestReplicas_ChangeOnAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.startReplicas(2)[1]
	w.apply(spec("ws", ""))
	w.startAgent()
	shown := func(name string) func(stack.Page) bool {
		return func(p stack.Page) bool { return p.Has(sshGauge, `workspace_name="`+name+`"`) }
	}
	w.awaitPage(patience, "the agent is shown", shown("ws"))
	var list []struct{ ID string }
	w.must(w.api("GET", "workspaces", &list))
	file := w.write("rename.json", `{"workspace": {"id": "`+list[0].ID+`", "owner": "admin", "name": "renamed"}}`)
	_, err := other.CLI(t.Context(), "import", file)
	w.must(err)
	w.awaitPage(soon, "the old name is gone", func(p stack.Page) bool { return !shown("ws")(p) })
	w.awaitPage(patience, "the agent is shown under its new name", shown("renamed"))
	_, err = other.CLI(t.Context(), "workspace", "delete", "renamed")
	w.must(err)
	w.awaitPage(soon, "a deleted workspace is gone", func(p stack.Page) bool {
		return !p.Has(sshGauge) && !p.Has("coderd_agents_up") && p.Sum("worktally_agent_sessions") == 0
	})
}

// onlyOn checks that the agent and its session are on the page of one of the replicas,
// or with -1 on none, and what is the deployment's on all.
func (w *world) onlyOn(ctx context.Context, replicas []*stack.Server, at int) error {
	var bytes []float64
	nodes := make(map[string]bool)
	for i, r := range replicas {
		own, err := stack.ReadPath(ctx, r.Page, "/metrics/replica")
		if err != nil {
			return err
		}
		want := 0.0
		if i == at {
			want = 1
		}
		if got := own.Sum(sshGauge); got != want || own.Has(sshGauge) != (i == at) {
			return fmt.Errorf("replica %d shows %v sessions (there: %t), want %v", i, got, own.Has(sshGauge), want)
		}
		all, err := stack.ReadPath(ctx, r.Page, "/metrics/deployment")
		if err != nil {
			return err
		}
		if all.Has(sshGauge) || all.Sum("coderd_agents_up") != 1 || all.Sum("coderd_agents_connections", `status="connected"`) != 1 {
			return fmt.Errorf("replica %d: %v agents are up, %v connected", i, all.Sum("coderd_agents_up"), all.Sum("coderd_agents_connections", `status="connected"`))
		}
		for key := range all {
			if strings.HasPrefix(key, "coderd_agents_connections{") {
				nodes[key] = true
			}
		}
		bytes = append(bytes, all.Sum("worktally_workspace_sessions_total"))
	}
	if len(nodes) != 1 || strings.Contains(fmt.Sprint(nodes), `tailnet_node="unknown"`) {
		return fmt.Errorf("the replicas say of the agent: %v", nodes)
	}
	for _, b := range bytes {
		if b != bytes[0] {
			return fmt.Errorf("the deployment's sessions are %v", bytes)
		}
	}
	return nil
}
