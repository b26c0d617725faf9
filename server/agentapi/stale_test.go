package agentapi_test

import (
	"testing"

	"github.com/worktally/worktally/server/agentapi"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire/agentpb"
)

// TestRecheck_RenamedWhileNobodyListened: another server renamed the workspace while this
// one had lost the database (or could not tell of it in its 5 s). When this one hears again
// it looks at everything (Watch.Again): the session must not go on under the old name.
func TestRecheck_RenamedWhileNobodyListened(t *testing.T) {
	w := newWorld(t, setup{})
	o, p := ours{w, newID()}, w.dial()
	o.send(t, p, o.window(1, 1))
	if _, shown := w.page()[sshOfBox]; !shown {
		t.Fatal("the agent is not shown")
	}
	spec, err := catalog.ParseSpec("test", []byte(workspaceYAML))
	must(t, err)
	spec.Name = "renamed"
	_, err = w.catalog.ApplyTo(t.Context(), w.user, w.ws.ID, spec)
	must(t, err)
	w.agents.RecheckAll(t.Context())
	_, _ = p.UpdateStats(t.Context(), o.report(o.window(2, 2))) // unless it has to come again first
	if _, shown := w.page()[sshOfBox]; shown {
		t.Error("a workspace that is called renamed is shown as box")
	}
}

const sshOfBox = `coderd_agentstats_session_count_ssh{agent_name="main",username="ann",workspace_name="box"}`

// TestLifecycle_OffBeforeTheLastReportIsStored: an agent stops: it waits 2 s for its last
// report and then says that it is off. Its series end at once.
func TestLifecycle_OffBeforeTheLastReportIsStored(t *testing.T) {
	held := heldLedger{entered: make(chan struct{}), goOn: make(chan struct{})}
	w := newWorld(t, setup{options: func(o *agentapi.Options) { held.Ledger = o.Ledger; o.Ledger = held }})
	o, p := ours{w, newID()}, w.dial()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = p.UpdateStats(t.Context(), o.report(o.window(1, 1)))
	}()
	<-held.entered
	_, err := p.UpdateLifecycle(t.Context(), &agentpb.UpdateLifecycleRequest{Lifecycle: &agentpb.Lifecycle{State: agentpb.Lifecycle_OFF}})
	must(t, err)
	close(held.goOn)
	<-sent
	if _, shown := w.page()[sshOfBox]; shown {
		t.Error("an agent that is off is shown")
	}
}
