package agentapi_test

import (
	"database/sql"
	"math"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// scripts is a total of all agents together, as the ledger has it.
func (w *world) scripts() float64 {
	w.t.Helper()
	totals, err := w.ledger.DeploymentTotals(w.t.Context())
	must(w.t, err)
	for _, s := range totals {
		if s.Name == "agent_scripts_executed_total" {
			return s.Value
		}
	}
	return 0
}

// stored returns the same total of one agent, and -1 if there is no such agent.
func (w *world) stored(workspace uuid.UUID, agent string) float64 {
	w.t.Helper()
	total := -1.0
	for _, l := range w.latest() {
		if l.WorkspaceID == workspace && l.AgentName == agent {
			total = 0
			for _, s := range l.Totals {
				if s.Name == "agent_scripts_executed_total" {
					total += s.Value
				}
			}
		}
	}
	return total
}

// TestHostile_OtherIdentity: an agent reports for nobody else, neither made-up
// windows nor those of another agent that it got hold of.
func TestHostile_OtherIdentity(t *testing.T) {
	w := newWorld(t, setup{})
	victim := ours{w, newID()}
	mine := victim.window(5, 50)
	captured := proto.CloneOf(mine)
	p := w.dial()
	victim.send(t, p, mine)

	token, ws := w.other("villain")
	villain := w.dialAs(token, "?version=2.13")
	if seq := victim.hello(t, villain); seq != 0 {
		t.Errorf("the villain was told sequence %d of another agent's epoch", seq)
	}
	madeUp := victim.window(6, 1e6)
	otherName := victim.window(7, 1e6)
	otherName.WorkspaceId, otherName.AgentName = ws.ID[:], "sidecar"
	acks := victim.send(t, villain, captured, madeUp, otherName)
	for _, seq := range []uint64{5, 6, 7} {
		if acks[seq] != "foreign_identity" {
			t.Errorf("window %d: %q", seq, acks[seq])
		}
	}
	if got := [3]float64{w.stored(w.ws.ID, "main"), w.stored(ws.ID, "main"), w.stored(ws.ID, "sidecar")}; got != [3]float64{50, -1, -1} {
		t.Errorf("totals of the victim, the villain and its other name: %v", got)
	}

	// Under its own name the epoch is another one: it moves no sequence of the victim's.
	claimed := victim.window(900, 3)
	claimed.WorkspaceId = ws.ID[:]
	if acks := victim.send(t, villain, claimed); acks[900] != "" {
		t.Errorf("a window of its own: %q", acks[900])
	}
	if acks := victim.send(t, p, captured, victim.window(6, 60)); acks[5] != "" || acks[6] != "" {
		t.Errorf("the victim's own windows: %v", acks)
	}
	if got := [2]float64{w.stored(w.ws.ID, "main"), w.scripts()}; got != [2]float64{60, 63} {
		t.Errorf("totals of the victim and of all: %v", got)
	}
	w.want(map[string]string{`worktally_rejected_windows_total{reason="foreign_identity"}`: "3"})
}

// TestHostile_Replay: sending again what was committed, in whatever order, from
// however many sessions, counts nothing.
func TestHostile_Replay(t *testing.T) {
	w := newWorld(t, setup{})
	o := ours{w, newID()}
	var all []*worktallypb.Window
	for seq := uint64(1); seq <= 20; seq++ {
		all = append(all, o.window(seq, float64(seq)))
		o.send(t, w.dial(), proto.CloneOf(all[seq-1]))
	}
	for range 3 {
		p := w.dial()
		for i := range all {
			o.send(t, p, proto.CloneOf(all[(i*7+1)%20]), proto.CloneOf(all[i]))
		}
	}
	if got := w.scripts(); got != 20 {
		t.Errorf("total %v, want 20", got)
	}
}

// TestHostile_LastSequence: an agent cannot block itself with a sequence after
// which there is none.
func TestHostile_LastSequence(t *testing.T) {
	w := newWorld(t, setup{})
	o, p := ours{w, newID()}, w.dial()
	o.send(t, p, o.window(1, 1))
	for _, seq := range []uint64{math.MaxUint64, math.MaxInt64 + 1, math.MaxInt64, 1 << 53, 1<<26 + 2} {
		if acks := o.send(t, p, o.window(seq, 1e6)); acks[seq] != "bad_sequence" {
			t.Errorf("sequence %d: %q", seq, acks[seq])
		}
		fresh := ours{w, newID()}
		if acks := fresh.send(t, p, fresh.window(seq, 1e6)); acks[seq] != "bad_sequence" {
			t.Errorf("sequence %d of a new epoch: %q", seq, acks[seq])
		}
	}
	if acks := o.send(t, p, o.window(2, 2)); acks[2] != "" || w.scripts() != 2 {
		t.Errorf("after that: %q, total %v", acks[2], w.scripts())
	}
	if seq := o.hello(t, p); seq != 2 {
		t.Errorf("the server knows sequence %d", seq)
	}
}

// rebuild gives the agent a new id and a new token, as a new build of its
// workspace does; name and workspace stay.
func (w *world) rebuild(path string) {
	w.t.Helper()
	db, err := sqldb.Open(w.t.Context(), path)
	must(w.t, err)
	defer db.Close()
	fresh := uuid.New()
	must(w.t, db.Write(w.t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.Exec(`PRAGMA defer_foreign_keys = 1`); err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE catalog_agents SET id = $2 WHERE id = $1`, w.agent.ID, fresh); err != nil {
			return err
		}
		for _, table := range []string{"states", "apps", "metadata", "logs", "timings", "connections", "log_sources"} {
			if _, err := tx.Exec(`UPDATE catalog_`+table+` SET agent_id = $2 WHERE agent_id = $1`, w.agent.ID, fresh); err != nil {
				return err
			}
		}
		return nil
	}))
	old := w.agent.ID
	w.agent.ID, w.token, err = w.catalog.RotateAgentToken(w.t.Context(), w.ws.ID, "main")
	must(w.t, err)
	if w.agent.ID != fresh {
		w.t.Fatalf("the agent's id is %s, want %s", w.agent.ID, fresh)
	}
	w.agents.Drop(old)
}

// TestReport_WorkspaceRebuild: the new build delivers what the old one had not,
// and goes on in the same epoch, or in one of its own.
func TestReport_WorkspaceRebuild(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	w := newWorld(t, setup{path: path})
	o, p, oldToken := ours{w, newID()}, w.dial(), w.token
	o.send(t, p, o.window(1, 10))
	rest := []*worktallypb.Window{o.window(3, 30), o.window(2, 20)} // in the outbox
	w.rebuild(path)
	<-p.Closed()
	if _, resp, err := w.socket(oldToken, ""); err == nil || resp.StatusCode != 401 {
		t.Errorf("the old build's token: %v", err)
	}
	p = w.dial()
	if seq := o.hello(t, p); seq != 1 {
		t.Errorf("the new build is told sequence %d, want 1", seq)
	}
	for range 2 { // the answer was lost
		acks := o.send(t, p, proto.CloneOf(rest[0]), proto.CloneOf(rest[1]))
		if acks[2] != "" || acks[3] != "" {
			t.Errorf("the old build's rest: %v", acks)
		}
	}
	o.send(t, p, o.window(4, 31))
	w.rebuild(path)
	fresh := ours{w, newID()} // the directory was lost
	p = w.dial()
	fresh.send(t, p, fresh.window(1, 5))
	o.send(t, p, o.window(5, 32)) // found after all
	if got := [2]float64{w.stored(w.ws.ID, "main"), w.scripts()}; got != [2]float64{37, 37} {
		t.Errorf("totals of the agent and of all: %v, want 37", got)
	}
}
