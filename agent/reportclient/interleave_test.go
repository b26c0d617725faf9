package reportclient

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/durable"
	"github.com/worktally/worktally/internal/durable/faultfs"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

func cutBefore(wiretest.Call) wiretest.Fault { return wiretest.CutBefore }

// TestOutbox_ToldWhileItIsWritten: the server says how far it knows the epoch while a
// checkpoint is written that does not know yet. That checkpoint must be replaced
// before totals are sent: another process would send them again.
func TestOutbox_ToldWhileItIsWritten(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.service.SetFault(cutBefore)
		m.count(1, 10)
		advance(31 * time.Second)
		m.kill(false)
		m.service.SetFault(cutBefore)
		m.boot()
		m.count(1, 20)
		r, told := m.client.reporter, false
		m.disk.Fail(func(_ int, what string) error {
			if what == "sync" && !told {
				told = true
				r.confirm(r.epoch, 1)
			}
			return nil
		})
		advance(6 * time.Second)
		m.disk.Fail(faultfs.With(syscall.EIO))
		m.service.SetFault(nil)
		advance(90 * time.Second)
		m.kill(false)
		m.boot()
		m.count(1, 50) // so that no total falls below what the server has
		m.wantSettled(5, 180)
	})
}

// TestOutbox_AcknowledgedAfterTheCheckpoint: an acknowledgement that came after the
// last count is kept too, for a server that refuses the epoch after a restart.
func TestOutbox_AcknowledgedAfterTheCheckpoint(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.storeSlowly()
		m.count(1, 10)
		advance(31 * time.Second) // the report is under way
		m.count(1, 20)
		advance(20 * time.Second) // a checkpoint, then the answer, then nothing to count
		m.kill(false)
		m.close()
		m.boot()
		m.wantSettled(4, 130)
	})
}

// TestOutbox_AcknowledgedBeforeACrash: an acknowledgement that came too late for the
// last checkpoint is not forgotten by a crash: if the server refuses the epoch, what it
// has of it is known from the records that were on their way.
func TestOutbox_AcknowledgedBeforeACrash(t *testing.T) {
	for name, cutMeanwhile := range map[string]bool{"a checkpoint is made meanwhile": false, "a window is cut meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				m.storeSlowly()
				m.count(1, 10)
				advance(31 * time.Second) // the report is under way
				m.service.SetFault(func(call wiretest.Call) wiretest.Fault {
					if call.Name == "UpdateStats" {
						return wiretest.CutBefore // and is the last
					}
					return wiretest.None
				})
				m.count(1, 20)
				if cutMeanwhile {
					m.client.reporter.cutNow(false)
				}
				advance(14 * time.Second) // a checkpoint, then the answer
				if m.client.reporter.delivered != 2 {
					t.Fatalf("%d windows are delivered", m.client.reporter.delivered)
				}
				m.kill(false)
				m.close()
				m.boot()
				advance(7 * time.Second)
				m.kill(false) // before it has said hello, or after
				m.boot()
				m.wantSettled(4, 130)
			})
		})
	}
}

// TestOutbox_StateNeverWaitsForTheDisk: nor does a page that shows it.
func TestOutbox_StateNeverWaitsForTheDisk(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.service.SetFault(cutBefore)
		for range 3 {
			m.count(1, 10)
			advance(31 * time.Second)
		}
		m.kill(false)
		o := newOutbox(nil, (&logBuffer{}).logger(), 0, time.Now)
		o.lock = func(string) (io.Closer, error) { return io.NopCloser(nil), nil }
		used := 0
		o.fs = watchedFS{m.disk, func(what string) {
			used++
			if !o.mu.TryLock() {
				t.Errorf("the state waits for the disk to %s", what)
				return
			}
			o.mu.Unlock()
		}}
		o.open("/state", *m.client.reporter.owner(), uuid.Nil)
		defer o.close()
		var ids []recordID
		waiting, _ := o.pending(10)
		for _, r := range waiting {
			ids = append(ids, r.id())
		}
		o.acknowledge(ids[:2])
		o.acknowledge(ids)
		if n, _, _ := o.state(); n != 0 || used == 0 {
			t.Errorf("%d records are left, the disk was used %d times", n, used)
		}
	})
}

// watchedFS says what it is about to do.
type watchedFS struct {
	durable.FS
	does func(what string)
}

func (w watchedFS) Open(name string, create bool) (durable.File, error) {
	w.does("open " + name)
	return w.FS.Open(name, create)
}

func (w watchedFS) Remove(name string) error {
	w.does("remove " + name)
	return w.FS.Remove(name)
}

// TestOutbox_ClosedOnce: nobody opens the directory again once the client has
// ended, because the next in this process would find it locked.
func TestOutbox_ClosedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held atomic.Int32
		var c *Client
		c = newClient(t, func(o *Options) {
			o.OutboxDir = func(uuid.UUID, string) string { return "/state" }
			o.Routines = []Routine{{Name: "slow to end", Run: func(ctx context.Context, _ agentpb.DRPCAgentClient) error {
				<-ctx.Done()
				time.Sleep(time.Second)
				c.reporter.checkpoint(true) // as after the answer of a stock server
				return nil
			}}}
		})
		c.reporter.outbox.fs = faultfs.New()
		c.reporter.outbox.lock = func(string) (io.Closer, error) {
			held.Add(1)
			return closer(func() { held.Add(-1) }), nil
		}
		direct(c, wiretest.NewService(wiretest.NewManifest()))
		stop := start(t, c)
		advance(40 * time.Second)
		stop()
		if n := held.Load(); n != 0 {
			t.Errorf("%d locks are held", n)
		}
	})
}

type closer func()

func (c closer) Close() error {
	c()
	return nil
}

// TestRun_DiskThatHangs: a disk that never answers holds neither the last report
// nor the end of the client up for longer than their limits.
func TestRun_DiskThatHangs(t *testing.T) {
	disk, goOn := faultfs.New(), make(chan struct{})
	s := wiretest.NewService(wiretest.NewManifest())
	c := newClient(t, func(o *Options) {
		o.OutboxDir = func(uuid.UUID, string) string { return "/state" }
	})
	c.reporter.outbox.fs = disk
	c.reporter.outbox.lock = func(string) (io.Closer, error) { return io.NopCloser(nil), nil }
	direct(c, s)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	s.WaitCalls(t, "UpdateStats", 1)
	disk.Fail(func(int, string) error {
		<-goOn
		return nil
	})
	scriptRan(c.o.Tally)
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		last, done := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer done()
		if err := c.FlushReport(last); err == nil {
			t.Error("the last report is said to be delivered")
		}
	}()
	await := func(what string, over <-chan struct{}) {
		select {
		case <-over:
		case <-time.After(10 * time.Second):
			t.Errorf("%s hangs with the disk", what)
		}
	}
	await("the last report", flushed)
	cancel()
	await("the client", ended)
	close(goOn)
	<-ended
}

// TestOurs_OlderHistoryWhileTheDiskIsBusy: an agent that cannot look at its log does
// not say that nothing older is in it. The server would close the older epochs.
func TestOurs_OlderHistoryWhileTheDiskIsBusy(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.service.SetFault(cutBefore)
		for range 3 {
			m.count(1, 10)
			advance(31 * time.Second)
		}
		r := m.client.reporter
		r.newEpoch(r.epoch, nil)
		m.count(1, 10)
		advance(31 * time.Second)
		api, asked := agentpb.NewDRPCAgentClient(m.service.NewConn()), false
		m.disk.Fail(func(_ int, what string) error {
			if what == "sync" && !asked {
				asked = true
				_, _ = r.deliverOurs(t.Context(), api)
			}
			return nil
		})
		m.count(1, 10)
		advance(6 * time.Second)
		calls := m.service.Calls("UpdateStats")
		last := calls[len(calls)-1].Request.(*agentpb.UpdateStatsRequest).GetWorktally()
		if !asked || len(last.GetWindows()) == 0 {
			t.Fatalf("no report was tried: %v", last)
		}
		if last.GetNoOlderEpochPending() {
			t.Error("nothing older is said to wait")
		}
	})
}

// TestOurs_OlderTotalsWhileTheDiskCannotBeOpened: nor does one that begins in memory,
// because it cannot open its directory. What an earlier process left there is delivered
// when it can.
func TestOurs_OlderTotalsWhileTheDiskCannotBeOpened(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.count(1, 10)
		advance(31 * time.Second)
		m.service.SetFault(cutBefore)
		m.count(2, 20)
		m.stop()
		m.service.SetFault(nil)
		m.disk.Fail(faultfs.With(syscall.EIO))
		m.boot()
		m.count(4, 40)
		advance(2 * time.Minute)
		m.disk.Fail(nil)
		advance(2 * time.Minute)
		got := m.service.Ledger.Totals()
		if scripts, bytes := sumNamed(got, "agent_scripts_executed_total"), sumNamed(got, "agent_network_receive_bytes_total"); scripts != 9 || bytes != 170 {
			t.Errorf("the server has %v scripts and %v bytes, want 9 and 170", scripts, bytes)
		}
	})
}

// TestOutbox_DeletedDirectory: an agent whose directory is deleted under it says so,
// and keeps what it counts in a new one.
func TestOutbox_DeletedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "outbox")
	id := identity{uuid.New(), "main"}
	o := newOutbox(durable.OS{}, (&logBuffer{}).logger(), 0, time.Now)
	o.open(dir, id, uuid.Nil)
	sequence := uint64(0)
	cut := func() {
		sequence++
		o.append(&record{Workspace: id.workspace, Agent: id.agent, Epoch: uuid.UUID{1}, Sequence: sequence, End: time.Now()}, position{})
	}
	for range 3 {
		cut()
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	cut()
	if o.durable.Load() || o.writeErrors.Load() == 0 {
		t.Error("what went nowhere is said to be on the disk")
	}
	cut()
	if !o.durable.Load() {
		t.Error("not durable in a new directory")
	}
	o.close()
	o = newOutbox(durable.OS{}, (&logBuffer{}).logger(), 0, time.Now)
	defer o.close()
	if found := o.open(dir, id, uuid.Nil); found == nil || found.newest.Sequence != sequence {
		t.Errorf("found %+v", found)
	}
}

// TestStock_HistoryGoesInBatches: an agent that changes to a stock server gives its
// history up without reading all of it at once, and without a call for it.
func TestStock_HistoryGoesInBatches(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.service.SetFault(cutBefore)
		for range 3 * maxHistory {
			m.count(0, 1)
			advance(30 * time.Second)
		}
		m.service.Ledger.SetStock(true)
		m.service.SetFault(nil)
		o, most := m.client.reporter.outbox, 0
		before := len(m.service.Calls("UpdateStats"))
		for range 600 {
			advance(100 * time.Millisecond)
			o.mu.Lock()
			most = max(most, len(o.lent))
			o.mu.Unlock()
		}
		if n, _, _ := o.state(); n > 1 || most == 0 || most > maxHistory+1 {
			t.Errorf("%d records are left, %d were read at once", n, most)
		}
		if n := len(m.service.Calls("UpdateStats")) - before; n > 5 {
			t.Errorf("%d calls in a minute", n)
		}
	})
}
