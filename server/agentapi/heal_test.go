package agentapi_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/server/ledger"
)

// healing is an agent with three epochs, and a server whose database went back.
type healing struct {
	w          *world
	path       string
	a, b, c    ours
	backup     []byte
	beforeLoss float64
}

func newHealing(t *testing.T) *healing {
	t.Helper()
	h := &healing{path: filepath.Join(t.TempDir(), "test.db")}
	h.w = newWorld(t, setup{path: h.path})
	h.a, h.b, h.c = ours{h.w, newID()}, ours{h.w, newID()}, ours{h.w, newID()}
	p := h.w.dial()
	h.a.send(t, p, h.a.window(1, 10))
	h.a.send(t, p, h.a.window(2, 20))
	h.b.send(t, p, h.b.window(1, 100))
	h.w.stop() // a database that was closed has all in one file
	var err error
	h.backup, err = os.ReadFile(h.path)
	must(t, err)
	h.again(t)
	p = h.w.dial()
	h.a.send(t, p, h.a.window(3, 30))
	h.b.send(t, p, h.b.window(2, 200))
	h.c.send(t, p, h.c.window(1, 1000))
	h.c.send(t, p, h.c.window(2, 2000))
	h.beforeLoss = h.w.scripts()
	h.w.stop()
	if h.beforeLoss != 2230 {
		t.Fatalf("total %v, want 2230", h.beforeLoss)
	}
	return h
}

// again starts a server on whatever the database is now.
func (h *healing) again(t *testing.T) {
	t.Helper()
	h.w = newWorld(t, setup{path: h.path})
	h.a.w, h.b.w, h.c.w = h.w, h.w, h.w
}

// heal lets the agent report on: each epoch that it has, once. What was
// acknowledged before is gone at the agent.
func (h *healing) heal(t *testing.T, knownA, knownC uint64) {
	t.Helper()
	p := h.w.dial()
	if a, c := h.a.hello(t, p), h.c.hello(t, p); a != knownA || c != knownC {
		t.Errorf("the server knows sequences %d and %d, want %d and %d", a, c, knownA, knownC)
	}
	for range 2 { // and once more, as if the answers were lost
		h.c.send(t, p, h.c.window(3, 3000))
		h.a.send(t, p, h.a.window(4, 40))
		h.b.send(t, p, h.b.window(3, 300))
	}
	const want = 40 + 300 + 3000
	if got := [2]float64{h.w.stored(h.w.ws.ID, "main"), h.w.scripts()}; got != [2]float64{want, want} {
		t.Errorf("totals of the agent and of all: %v, want %v", got, want)
	}
	poll(t, "the page", func() bool { return h.w.page()[`worktally_workspace_scripts_total{success="true"}`] == "3340" })
}

// TestHeal_RestoredBackup: a database of before knows some epochs with lower
// sequences and others not at all.
func TestHeal_RestoredBackup(t *testing.T) {
	h := newHealing(t)
	must(t, os.WriteFile(h.path, h.backup, 0o600))
	h.again(t)
	if got := h.w.scripts(); got != 120 {
		t.Errorf("the backup has total %v, want 120", got)
	}
	h.heal(t, 2, 0)
}

// TestHeal_DamagedLedger: the server starts without the ledger and with all
// workspaces and tokens, and the same totals come back.
func TestHeal_DamagedLedger(t *testing.T) {
	h := newHealing(t)
	db, err := sqldb.Open(t.Context(), h.path)
	must(t, err)
	var page, size int64
	must(t, db.Reader().QueryRow(`SELECT rootpage FROM sqlite_master WHERE name = 'ledger_epochs'`).Scan(&page))
	must(t, db.Reader().QueryRow(`PRAGMA page_size`).Scan(&size))
	must(t, db.Close())
	f, err := os.OpenFile(h.path, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, int(size)), (page-1)*size)
	must(t, err)
	must(t, f.Close())

	agent := h.w.agent.ID
	db, err = sqldb.Guard{Heals: ledger.Component}.Open(t.Context(), h.path)
	must(t, err)
	if db.Aside() == "" {
		t.Fatal("nothing was set aside")
	}
	must(t, db.Close())
	h.again(t)
	if h.w.agent.ID != agent {
		t.Errorf("the agent is %s now, was %s", h.w.agent.ID, agent)
	}
	if got := h.w.scripts(); got != 0 {
		t.Errorf("the new ledger begins with total %v", got)
	}
	h.heal(t, 0, 0)
}
