package agentapi_test

import (
	"context"
	"testing"
	"time"

	"github.com/worktally/worktally/server/agentapi"
	"github.com/worktally/worktally/server/ledger"
)

// heldLedger stores nothing before it may.
type heldLedger struct {
	agentapi.Ledger
	entered, goOn chan struct{}
}

func (l heldLedger) Commit(ctx context.Context, s ledger.Submission) (ledger.Outcome, error) {
	close(l.entered)
	<-l.goOn
	return l.Ledger.Commit(ctx, s)
}

// TestReport_HelloWaitsForWhatIsBeingStored: a new session is not told that the
// server lacks a report which an older session of the agent has handed in.
func TestReport_HelloWaitsForWhatIsBeingStored(t *testing.T) {
	held := heldLedger{entered: make(chan struct{}), goOn: make(chan struct{})}
	w := newWorld(t, setup{options: func(o *agentapi.Options) {
		held.Ledger = o.Ledger
		o.Ledger = held
	}})
	o, older, newer := ours{w, newID()}, w.dial(), w.dial()
	sent, told := make(chan struct{}), make(chan uint64, 1)
	go func() {
		defer close(sent)
		_, _ = older.UpdateStats(t.Context(), o.report(o.window(1, 1)))
	}()
	<-held.entered
	go func() { told <- o.hello(t, newer) }()
	select {
	case seq := <-told:
		t.Errorf("told sequence %d while another is being stored", seq)
		told <- seq
	case <-time.After(200 * time.Millisecond):
	}
	close(held.goOn)
	<-sent
	if seq := <-told; seq != 1 {
		t.Errorf("told sequence %d", seq)
	}
}
