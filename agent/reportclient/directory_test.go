package reportclient

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/durable"
	"github.com/worktally/worktally/internal/durable/faultfs"
)

// flap has the directory away for a moment (ENOENT), and back as it was.
func flap(m *machine) {
	m.disk.Fail(faultfs.With(fs.ErrNotExist))
	m.count(1, 1)
	advance(5 * time.Second)
	m.disk.Fail(nil)
}

// wantFlushed says that everything is delivered, and compares.
func (m *machine) wantFlushed(bytes float64) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := m.client.FlushReport(ctx)
	if got := m.received(); err != nil || got != bytes {
		m.t.Errorf("flush: %v; the server has %v bytes, not %v", err, got, bytes)
	}
}

// TestDirectory_AwayThenFlush: the process does not take its own epoch for one of an
// earlier process, so that what it says of the delivery is true.
func TestDirectory_AwayThenFlush(t *testing.T) {
	for d := time.Duration(0); d < 31*time.Second; d += time.Second {
		t.Run("after "+d.String(), func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				advance(d)
				m.count(1, 10)
				advance(5 * time.Second)
				flap(m)
				advance(5 * time.Second) // it is back
				m.count(1, 100)
				m.wantFlushed(211)
			})
		})
	}
}

// TestDirectory_AwayThenReconnect: a session begins while the disk's record is the only one.
func TestDirectory_AwayThenReconnect(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.count(1, 10)
		advance(5 * time.Second)
		flap(m)
		advance(5 * time.Second) // it is back
		r := m.client.reporter
		r.mu.Lock()
		r.urgent = true
		r.mu.Unlock()
		m.reconnect()
		advance(3 * time.Second)
		m.count(1, 100)
		m.wantFlushed(211)
	})
}

// TestDirectory_AwayThenRefused: the directory is away, comes back, and the epoch is refused.
func TestDirectory_AwayThenRefused(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.count(1, 10)
		advance(5 * time.Second)
		flap(m)
		advance(25 * time.Second) // one report is taken in
		m.close()
		m.count(1, 100)
		m.wantSettled(2+1+1+1, 211)
	})
}

// TestDirectory_Replaced: the directory is replaced under a running agent by a copy of
// itself (a restored volume, mv to another one and a link). What is counted from then on
// is on the disk.
func TestDirectory_Replaced(t *testing.T) {
	parent := t.TempDir()
	dir, id := filepath.Join(parent, "outbox"), identity{uuid.New(), "main"}
	o := newOutbox(durable.OS{}, (&logBuffer{}).logger(), 0, time.Now)
	o.open(dir, id, uuid.Nil)
	sequence := uint64(0)
	cut := func() {
		sequence++
		o.append(&record{
			Workspace: id.workspace, Agent: id.agent, Epoch: uuid.UUID{1}, Sequence: sequence, End: time.Now(), Totals: []stats.Series{{Name: "x", Value: float64(sequence)}},
		}, position{})
	}
	for range 3 {
		cut()
	}
	if err := os.CopyFS(dir+".copy", os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+".copy", dir); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		cut()
	}
	next := newOutbox(durable.OS{}, (&logBuffer{}).logger(), 0, time.Now)
	next.lock = func(string) (io.Closer, error) { return io.NopCloser(nil), nil }
	found := next.open(dir, id, uuid.Nil)
	defer next.close()
	defer o.close()
	if found == nil || found.newest.Sequence != sequence {
		t.Errorf("after %d windows, said to be durable: %v, the disk has window %d", sequence, o.durable.Load(), found.newest.Sequence)
	}
}
