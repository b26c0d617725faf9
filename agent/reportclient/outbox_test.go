package reportclient

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/durable"
	"github.com/worktally/worktally/internal/durable/faultfs"
	"github.com/worktally/worktally/wire/wiretest"
	"github.com/worktally/worktally/wire/worktallypb"
)

// onMachine runs f with an agent that has counted and delivered a little.
func onMachine(t *testing.T, f func(t *testing.T, m *machine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, 1)
		m.boot()
		defer func() { m.stop() }()
		m.count(2, 100)
		advance(31 * time.Second)
		f(t, m)
	})
}

func (m *machine) count(scripts, bytes int) {
	for range scripts {
		scriptRan(m.client.o.Tally)
	}
	m.flow.Received(bytes)
}

func (m *machine) wantSettled(scripts, bytes float64) {
	m.t.Helper()
	if diff := m.settle(); diff != "" && strings.Contains(diff, "tally") {
		m.t.Error(diff)
	}
	got := m.service.Ledger.Totals()
	if n := sumNamed(got, "agent_scripts_executed_total"); n != scripts {
		m.t.Errorf("the server has %v scripts, not %v", n, scripts)
	}
	if n := sumNamed(got, "agent_network_receive_bytes_total"); n != bytes {
		m.t.Errorf("the server has %v bytes, not %v", n, bytes)
	}
}

// TestOutbox_RefusedAfterARestart: a server that will not take the old epoch any
// more has what it has acknowledged. The rest goes into a new epoch, once.
func TestOutbox_RefusedAfterARestart(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.service.SetFault(func(wiretest.Call) wiretest.Fault { return wiretest.CutBefore })
		m.count(1, 10)
		advance(31 * time.Second)
		m.kill(false)
		m.close()
		m.boot()
		m.count(1, 1)
		m.wantSettled(4, 111)
	})
}

// TestOutbox_SentButNotKept: the disk fails when a window is cut, which is sent all
// the same, and the agent dies. The disk has less of that very window.
func TestOutbox_SentButNotKept(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.count(1, 10)
		advance(6 * time.Second) // a checkpoint
		m.disk.Fail(func(int, string) error { return syscall.ENOSPC })
		m.count(1, 20)
		advance(30 * time.Second)
		if h := m.client.Health(); h.OutboxDurable || h.OutboxWriteErrors == 0 {
			t.Fatalf("health %+v", h)
		}
		m.kill(false)
		m.boot()
		m.count(2, 50) // so that no total falls below what the server has
		m.wantSettled(6, 180)
	})
}

// TestOutbox_NoRoomForHistory: on a full disk without a server the totals are kept all
// the same, in the files that are there; the history waits in memory.
func TestOutbox_NoRoomForHistory(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.service.SetFault(cutBefore)
		m.disk.Fail(faultfs.With(syscall.ENOSPC, "create"))
		for range 3 {
			m.count(1, 10)
			advance(30 * time.Second)
		}
		m.count(1, 10)
		advance(6 * time.Second)
		if h := m.client.Health(); !h.OutboxDurable || h.OutboxWriteErrors == 0 {
			t.Errorf("health %+v", h)
		}
		if n := recordsOf(m.client); n != 3 {
			t.Errorf("%d records wait", n)
		}
		m.kill(false)
		m.boot()
		m.wantSettled(6, 140)
	})
}

// TestOutbox_LoggedAndStillTheNewest: the disk takes a window as history, and then, as
// it fails from some operation on, not the totals that supersede it. The next process
// finds it twice and sends it once, so that it knows what the answer is about.
func TestOutbox_LoggedAndStillTheNewest(t *testing.T) {
	for failing, more := 1, true; more; failing++ {
		onMachine(t, func(t *testing.T, m *machine) {
			m.service.SetFault(func(wiretest.Call) wiretest.Fault { return wiretest.CutBefore })
			m.count(1, 10)
			advance(31 * time.Second)
			n := 0
			m.disk.Fail(func(int, string) error {
				if n++; n >= failing {
					return syscall.EIO
				}
				return nil
			})
			m.count(1, 20)
			advance(5 * time.Second) // a checkpoint
			more = n >= failing
			m.kill(false)
			m.boot()
			advance(time.Second) // the report is delivered
			m.close()
			m.count(2, 50)
			if diff := m.settle(); diff != "" {
				t.Errorf("failing from operation %d on (-tally +server):\n%s", failing, diff)
			}
		})
	}
}

// TestOutbox_HistoryWithANumberThatIsUsedAgain: the disk takes the history of windows,
// and not the totals, so that the next process cuts windows under the same numbers. That
// the history arrived does not say that their totals did.
func TestOutbox_HistoryWithANumberThatIsUsedAgain(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.service.SetFault(cutBefore)
		for range 2 {
			m.count(1, 10)
			advance(30 * time.Second)
		}
		m.count(1, 10)
		advance(5 * time.Second) // a checkpoint: all history is in the log
		m.disk.Fail(faultfs.With(syscall.EIO))
		m.count(1, 10)
		advance(5 * time.Second) // a checkpoint gives its file up
		m.disk.Fail(faultfs.With(syscall.EIO, "create"))
		for range 3 {
			m.count(1, 10)
			advance(30 * time.Second)
		}
		m.kill(false)
		m.boot()
		at := m.client.reporter.sequence
		m.count(1, 10)
		advance(31 * time.Second)
		numbers := make(map[uint64]bool)
		for id := range m.service.Ledger.Windows() {
			numbers[id.Sequence] = true
		}
		if !numbers[at+1] || !numbers[at+2] {
			t.Fatalf("no number is used again: the process began at %d, and the server has %v", at, numbers)
		}
		m.close()
		m.count(1, 10)
		if diff := m.settle(); diff != "" {
			t.Errorf("totals (-tally +server):\n%s", diff)
		}
	})
}

// TestOutbox_LostAnswerThenRefused: the server has a report whose answer was lost, and
// takes nothing more of the epoch. What it has is not sent again in the next one.
func TestOutbox_LostAnswerThenRefused(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.service.SetFault(func(call wiretest.Call) wiretest.Fault {
			if call.Name == "UpdateStats" {
				return wiretest.LoseReply
			}
			return wiretest.None
		})
		m.count(1, 10)
		advance(31 * time.Second)
		m.close()
		m.count(1, 20)
		m.client.reporter.cutNow(false) // so that it is not sent again as it was
		m.wantSettled(4, 130)
	})
}

// TestOutbox_FailsAtAnyOperation: each write, sync, rename and so on fails once, with
// each error, and then the agent dies. Nothing is doubled, and what was on the disk
// before is not lost.
func TestOutbox_FailsAtAnyOperation(t *testing.T) {
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
		for op, more := 1, true; more; op++ {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, uint64(op))
				failed := false
				m.disk.Fail(func(n int, what string) error {
					if n != op {
						return nil
					}
					failed = true
					return fmt.Errorf("%s: %w", what, fault)
				})
				m.boot()
				defer func() { m.stop() }()
				for range 3 {
					m.count(1, 10)
					advance(6 * time.Second)
					m.service.SetFault(func(wiretest.Call) wiretest.Fault { return wiretest.CutBefore })
					m.count(1, 10)
					advance(40 * time.Second)
					m.service.SetFault(nil)
				}
				advance(6 * time.Second) // another checkpoint, if the last failed
				m.kill(op%2 == 0)
				m.boot()
				m.wantSettled(6, 60)
				more = failed
			})
		}
	}
}

// TestOutbox_DamagedFiles: whatever happens to one of the files, the agent starts
// and nothing is doubled; only the newest slot costs what no server had.
func TestOutbox_DamagedFiles(t *testing.T) {
	for i := range 300 {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine(t, uint64(i))
			m.boot()
			defer func() { m.stop() }()
			m.count(1, 10)
			advance(31 * time.Second)
			m.service.SetFault(func(wiretest.Call) wiretest.Fault { return wiretest.CutBefore })
			for range 2 {
				m.count(1, 10)
				advance(31 * time.Second)
			}
			m.kill(false)
			m.damageOne()
			m.boot()
			m.settle()
			if h := m.client.Health(); h.OutboxSetAside > 3 {
				t.Errorf("%d set aside", h.OutboxSetAside)
			}
			got := m.service.Ledger.Totals()
			if n := sumNamed(got, "agent_network_receive_bytes_total"); n < 20 || n > 30 {
				t.Errorf("the server has %v bytes", n)
			}
		})
	}
}

// damageOne cuts a file short or flips a bit.
func (m *machine) damageOne() {
	files := m.disk.Files()
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	name := names[m.rng.IntN(len(names))]
	b := files[name]
	if at := m.rng.IntN(len(b)); m.rng.IntN(2) == 0 {
		b = b[:at]
	} else {
		b[at] ^= 1 << m.rng.IntN(8)
	}
	m.disk.Set(name, b)
}

// TestOutbox_AWeekWithoutAServer: after 20,160 windows of 30 s totals are right after
// one report, and the history is there within a minute, in at most 10 calls a second,
// although the agent was restarted meanwhile.
func TestOutbox_AWeekWithoutAServer(t *testing.T) {
	const windows = 7 * 24 * 120
	onMachine(t, func(t *testing.T, m *machine) {
		m.service.SetFault(func(wiretest.Call) wiretest.Fault { return wiretest.CutBefore })
		for i := range windows {
			m.count(0, 1)
			advance(30 * time.Second)
			if i == windows-1000 {
				m.stop()
				m.boot()
			}
		}
		if h := m.client.Health(); h.Records < windows || h.OutboxBytes == 0 || h.OutboxBytes > 64<<20 {
			t.Fatalf("%d records, %d bytes of history", h.Records, h.OutboxBytes)
		}
		want := m.counted()
		before := len(m.service.Calls("UpdateStats"))
		m.service.SetFault(nil)
		var first time.Time
		for began := time.Now(); ; advance(100 * time.Millisecond) {
			got := m.service.Ledger.Totals()
			if first.IsZero() && sumNamed(got, "agent_network_receive_bytes_total") == sumNamed(want, "agent_network_receive_bytes_total") {
				first = time.Now()
				if n := len(m.service.Calls("UpdateStats")) - before; n > 3 { // the hello, the report, and one more in 100 ms
					t.Errorf("%d calls until the totals were right", n)
				}
				began = first
			}
			if m.client.Health().Records <= 1 && !first.IsZero() {
				calls, took := len(m.service.Calls("UpdateStats"))-before, time.Since(began)
				t.Logf("%d calls in %v", calls, took)
				if took > time.Minute || float64(calls) > 10*took.Seconds()+3 {
					t.Errorf("%d calls in %v", calls, took)
				}
				break
			}
			if time.Since(began) > 5*time.Minute {
				t.Fatalf("%d records are left", m.client.Health().Records)
			}
		}
		if n := len(m.service.Ledger.Windows()); n < windows {
			t.Errorf("the server has %d windows of %d", n, windows)
		}
	})
}

// TestOutbox_NothingCountedNothingWritten: between two windows the disk is left alone
// if nothing has changed.
func TestOutbox_NothingCountedNothingWritten(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.count(1, 10)
		advance(31 * time.Second)
		for range 5 {
			advance(10 * time.Second) // what the server has acknowledged is kept
			before := m.disk.Ops()
			advance(14 * time.Second)
			if n := m.disk.Ops() - before; n > 0 {
				t.Fatalf("%d operations", n)
			}
			advance(6 * time.Second) // with another window
		}
	})
}

// TestOutbox_FullDropsTheOldestHistory: and never totals, and says how much.
func TestOutbox_FullDropsTheOldestHistory(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.client.reporter.outbox.disk.history.Close()
		history, _, err := durable.OpenLog(m.disk, "/state", "history", outboxFormat, 64<<10)
		if err != nil {
			t.Fatal(err)
		}
		m.client.reporter.outbox.disk.history = history
		m.service.SetFault(func(wiretest.Call) wiretest.Fault { return wiretest.CutBefore })
		const windows = 1000
		for range windows {
			m.count(0, 1)
			advance(30 * time.Second)
		}
		_, _, oldest := m.client.reporter.outbox.state()
		kept := time.Since(oldest)
		m.service.SetFault(nil)
		m.wantSettled(2, 100+windows)
		dropped := m.counted()["agent_dropped_total\xffwhat\xffreport_history"]
		if waiting := windows - int(dropped) + 1; kept > time.Duration(waiting)*30*time.Second {
			t.Errorf("the oldest of %d windows is said to be %s old", waiting, kept)
		}
		if n := len(m.service.Ledger.Windows()); dropped == 0 || n+int(dropped) < windows {
			t.Errorf("%d windows arrived, %v were dropped", n, dropped)
		}
	})
}

// TestOutbox_OldestWithoutReading: whoever drains history does not read all of it once
// more to know how old the rest is.
func TestOutbox_OldestWithoutReading(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.service.SetFault(cutBefore)
		for range 6 {
			m.count(1, 10)
			advance(30 * time.Second)
		}
		m.kill(false)
		o, opened := newOutbox(nil, (&logBuffer{}).logger(), 0, time.Now), 0
		o.lock = func(string) (io.Closer, error) { return io.NopCloser(nil), nil }
		o.fs = watchedFS{m.disk, func(what string) {
			if strings.HasPrefix(what, "open") {
				opened++
			}
		}}
		o.open("/state", *m.client.reporter.owner(), uuid.Nil)
		defer o.close()
		waiting, _ := o.pending(4)
		opened = 0
		o.acknowledge([]recordID{waiting[1].id(), waiting[2].id(), waiting[3].id(), waiting[4].id()})
		_, _, oldest := o.state()
		if next, _ := o.pending(1); len(next) != 2 || opened != 1 || !oldest.Equal(next[1].End) {
			t.Errorf("opened %d times, the oldest ended at %v, pending %v", opened, oldest, next)
		}
		m.boot()
	})
}

// TestOutbox_LostWhenAcknowledged: a segment that turns out to be unreadable is counted,
// whoever wanted to read it.
func TestOutbox_LostWhenAcknowledged(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.service.SetFault(cutBefore)
		for range 4 {
			m.count(1, 10)
			advance(30 * time.Second)
		}
		m.kill(false)
		o := newOutbox(m.disk, (&logBuffer{}).logger(), 0, time.Now)
		o.lock = func(string) (io.Closer, error) { return io.NopCloser(nil), nil }
		o.open("/state", *m.client.reporter.owner(), uuid.Nil)
		defer o.close()
		waiting, _ := o.pending(1)
		for name, b := range m.disk.Files() {
			if strings.Contains(name, "history-") {
				m.disk.Set(name, make([]byte, len(b)))
			}
		}
		o.acknowledge([]recordID{waiting[1].id(), {waiting[1].Epoch, waiting[1].Sequence + 1}})
		if n, _, _ := o.state(); n != 1 || o.setAside.Load() != 1 {
			t.Errorf("%d records are left, %d were set aside", n, o.setAside.Load())
		}
		m.boot()
	})
}

// TestOutbox_OtherFormat: an older program sets aside what a newer one has written,
// and says so.
func TestOutbox_OtherFormat(t *testing.T) {
	var said logBuffer
	disk := faultfs.New()
	newer, _, _, err := durable.OpenSlots(disk, "/state", "totals", outboxFormat+1)
	if err != nil || newer.Write([]byte("of tomorrow")) != nil {
		t.Fatal("cannot write")
	}
	o := newOutbox(disk, said.logger(), 0, time.Now)
	o.lock = func(string) (io.Closer, error) { return io.NopCloser(nil), nil }
	if found := o.open("/state", identity{agent: "main"}, uuid.Nil); found != nil {
		t.Fatalf("read %+v", found)
	}
	defer o.close()
	if text := said.String(); !strings.Contains(text, "set aside") || !strings.Contains(text, "totals-a.aside-format-2") || o.setAside.Load() != 1 {
		t.Errorf("said %q", text)
	}
	if !bytes.Contains(disk.Files()["/state/totals-a.aside-format-2"], []byte("of tomorrow")) {
		t.Errorf("files %v", disk.Files())
	}
}

// TestOutbox_RealDirectory: without a place on the disk, or with one that another
// process has, the agent goes on in memory; what the disk has comes back later.
func TestOutbox_RealDirectory(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "outbox")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // in the way
		t.Fatal(err)
	}
	var said logBuffer
	id := identity{uuid.New(), "main"}
	open := func() (*outbox, *restored) {
		o := newOutbox(durable.OS{}, said.logger(), 0, time.Now)
		return o, o.open(dir, id, uuid.Nil)
	}
	cut := func(o *outbox, epoch uuid.UUID, sequence uint64) {
		o.append(&record{Workspace: id.workspace, Agent: id.agent, Epoch: epoch, Sequence: sequence, End: time.Now()}, position{})
	}
	first, _ := open()
	cut(first, uuid.UUID{1}, 1)
	if first.durable.Load() || !strings.Contains(said.String(), "keeping reports on disk failed") {
		t.Fatalf("durable %v, said %q", first.durable.Load(), said.String())
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	cut(first, uuid.UUID{1}, 2)
	if !first.durable.Load() {
		t.Fatalf("not durable; said %q", said.String())
	}
	for _, name := range []string{"totals-a", "lock"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	second, found := open()
	cut(second, uuid.UUID{2}, 1)
	if second.durable.Load() || found != nil || !strings.Contains(said.String(), durable.ErrLocked.Error()) {
		t.Fatalf("two have the directory: %v; said %q", found, said.String())
	}
	first.close()
	cut(second, uuid.UUID{2}, 2)
	var ids []string
	waiting, _ := second.pending(10)
	for _, r := range waiting {
		ids = append(ids, fmt.Sprint(r.Epoch[0], "/", r.Sequence))
	}
	if diff := cmp.Diff([]string{"2/2", "1/1", "1/2", "2/1"}, ids, cmpopts.SortSlices(strings.Compare)); diff != "" || !second.durable.Load() {
		t.Fatalf("pending (-want +got):\n%s", diff)
	}
	second.close()
	third, found := open()
	defer third.close()
	if found == nil || found.newest.id() != (recordID{uuid.UUID{2}, 2}) {
		t.Fatalf("found %+v", found)
	}
}

// TestOutbox_AnotherOwner: a manifest that names another agent leaves the counts of
// the one before where its next process finds them.
func TestOutbox_AnotherOwner(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		r := m.client.reporter
		r.dir = func(_ uuid.UUID, agent string) string { return "/" + agent }
		m.service.SetFault(func(wiretest.Call) wiretest.Fault { return wiretest.CutBefore })
		id := *r.owner()
		r.identify(identity{id.workspace, "other"})
		m.count(1, 7)
		r.identify(identity{id.workspace, "third"})
		r.identify(identity{id.workspace, "other"})
		var sums []float64
		waiting, _ := r.outbox.pending(10)
		for _, p := range waiting {
			w := windowMessage(p, time.Now())
			for _, s := range w.GetTotals() {
				if s.GetName() == "agent_network_receive_bytes_total" {
					sums = append(sums, s.GetValue())
				}
			}
		}
		if diff := cmp.Diff([]float64{7}, sums); diff != "" {
			t.Errorf("bytes that wait for the other agent (-want +got):\n%s", diff)
		}
	})
}

// TestOutbox_OwnerOnAFailingDisk: what an owner whose disk failed has left in memory
// does not spoil the files of the next one.
func TestOutbox_OwnerOnAFailingDisk(t *testing.T) {
	disk := faultfs.New()
	open := func(dir string, id identity) (*outbox, *restored) {
		o := newOutbox(disk, (&logBuffer{}).logger(), 0, time.Now)
		o.lock = func(string) (io.Closer, error) { return io.NopCloser(nil), nil }
		return o, o.open(dir, id, uuid.Nil)
	}
	cut := func(o *outbox, id identity, sequence uint64) {
		o.append(&record{
			Workspace: id.workspace, Agent: id.agent, Epoch: id.workspace, Sequence: sequence, End: time.Now(), Totals: []stats.Series{{Name: "x", Value: 1}},
		}, position{})
	}
	first, second := identity{uuid.UUID{1}, "main"}, identity{uuid.UUID{2}, "main"}
	disk.Fail(faultfs.With(syscall.EIO))
	o, _ := open("/first", first)
	cut(o, first, 1)
	cut(o, first, 2)
	disk.Fail(nil)
	o.open("/second", second, uuid.Nil)
	cut(o, second, 1)
	o.close()
	o, found := open("/second", second)
	defer o.close()
	if found == nil || found.newest.owner() != second {
		t.Fatalf("found %+v", found)
	}
	if n, _, _ := o.state(); n != 1 {
		t.Errorf("%d records wait", n)
	}
}

// TestOutbox_ManyEpochs: however many epochs wait, the files stay such that the next
// process reads them. What does not fit is said, and kept as soon as it does.
func TestOutbox_ManyEpochs(t *testing.T) {
	disk, id := faultfs.New(), identity{uuid.UUID{1}, "main"}
	open := func() (*outbox, *restored) {
		o := newOutbox(disk, (&logBuffer{}).logger(), 0, time.Now)
		o.lock = func(string) (io.Closer, error) { return io.NopCloser(nil), nil }
		return o, o.open("/state", id, uuid.Nil)
	}
	epoch := func(n int) uuid.UUID { return uuid.UUID{1, byte(n), byte(n >> 8)} }
	cut := func(o *outbox, n int) {
		o.append(&record{
			Workspace: id.workspace, Agent: id.agent, Epoch: epoch(n), Sequence: 1, End: time.Now(), Totals: []stats.Series{{Name: "x", Value: 1}},
		}, position{})
	}
	o, _ := open()
	for n := range maxStateRecords + 2 {
		cut(o, n)
	}
	if o.durable.Load() || o.writeErrors.Load() != 2 {
		t.Errorf("durable %v, %d write errors", o.durable.Load(), o.writeErrors.Load())
	}
	next, found := open()
	if found == nil || found.newest.Epoch != epoch(maxStateRecords-1) {
		t.Fatalf("found %+v", found)
	}
	if n, _, _ := next.state(); n != maxStateRecords {
		t.Errorf("%d epochs wait on the disk", n)
	}
	next.close()
	o.acknowledge([]recordID{{epoch(0), 1}, {epoch(1), 1}})
	cut(o, maxStateRecords+1)
	if !o.durable.Load() {
		t.Error("not durable with room again")
	}
	o.close()
	last, found := open()
	defer last.close()
	if found == nil || found.newest.Epoch != epoch(maxStateRecords+1) {
		t.Fatalf("found %+v", found)
	}
}

func FuzzOutboxState(f *testing.F) {
	m := &worktallypb.OutboxState{Records: []*worktallypb.OutboxRecord{{Window: &worktallypb.Window{
		Sequence: 3, WorkspaceId: make([]byte, 16), AgentName: "main", Epoch: make([]byte, 16),
	}}}, Counts: []*worktallypb.OutboxCount{{Name: "agent_scripts_executed_total", Labels: []string{"success", "true"}, Value: 3, Base: 1}}}
	f.Add(mustMarshal(m))
	f.Fuzz(func(t *testing.T, b []byte) {
		o := newOutbox(faultfs.New(), (&logBuffer{}).logger(), 0, time.Now)
		found, _, err := o.decodeState(b, identity{agent: "main"})
		if err != nil || found == nil {
			return
		}
		if _, err := o.encodeState(found.newest, found.position, true); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
		if _, err := o.decodeRecord(b); err == nil {
			return
		}
	})
}

// TestOutbox_WrongState: what no agent has written is refused as a whole.
func TestOutbox_WrongState(t *testing.T) {
	good := func() *worktallypb.OutboxState {
		return &worktallypb.OutboxState{Records: []*worktallypb.OutboxRecord{{Window: &worktallypb.Window{
			Sequence: 3, WorkspaceId: make([]byte, 16), AgentName: "main", Epoch: make([]byte, 16),
		}}}, Counts: []*worktallypb.OutboxCount{{Name: "agent_scripts_executed_total", Labels: []string{"success", "true"}, Value: 3, Base: 1}}}
	}
	o := newOutbox(faultfs.New(), (&logBuffer{}).logger(), 0, time.Now)
	if found, _, err := o.decodeState(mustMarshal(good()), identity{agent: "main"}); err != nil || found == nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, spoil := range map[string]func(*worktallypb.OutboxState){
		"no records":              func(s *worktallypb.OutboxState) { s.Records = nil },
		"too many records":        func(s *worktallypb.OutboxState) { s.Records = slices.Repeat(s.Records, maxStateRecords+1) },
		"too many counts":         func(s *worktallypb.OutboxState) { s.Counts = slices.Repeat(s.Counts, maxStateCounts+1) },
		"no sequence":             func(s *worktallypb.OutboxState) { s.Records[0].Window.Sequence = 0 },
		"a sequence of no return": func(s *worktallypb.OutboxState) { s.Records[0].Window.Sequence = math.MaxUint64 },
		"no window":               func(s *worktallypb.OutboxState) { s.Records[0].Window = nil },
		"half an epoch":           func(s *worktallypb.OutboxState) { s.Records[0].Window.Epoch = make([]byte, 8) },
		"another agent":           func(s *worktallypb.OutboxState) { s.Records[0].Window.AgentName = "other" },
		"a negative count":        func(s *worktallypb.OutboxState) { s.Counts[0].Value = -1 },
		"no number":               func(s *worktallypb.OutboxState) { s.Counts[0].Value = math.NaN() },
		"an endless base":         func(s *worktallypb.OutboxState) { s.Counts[0].Base = math.Inf(1) },
		"too many that were sent": func(s *worktallypb.OutboxState) {
			s.SentSequences, s.Counts[0].Sent = []uint64{1, 2, 3}, []float64{1, 2, 3}
		},
		"less than was sent":      func(s *worktallypb.OutboxState) { s.SentSequences = []uint64{1} },
		"less than nothing, sent": func(s *worktallypb.OutboxState) { s.SentSequences, s.Counts[0].Sent = []uint64{1}, []float64{-1} },
		"half a label":            func(s *worktallypb.OutboxState) { s.Counts[0].Labels = []string{"success"} },
	} {
		s := good()
		spoil(s)
		if _, _, err := o.decodeState(mustMarshal(s), identity{agent: "main"}); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

// TestValuesOf: the order in which series stand does not matter.
func TestValuesOf(t *testing.T) {
	one := func(name, label string, v float64) stats.Series {
		return stats.Series{Name: name, Labels: []stats.Label{{Name: "x", Value: label}}, Value: v}
	}
	totals := []stats.Series{one("a", "1", 10), one("a", "2", 20), one("b", "1", 30)}
	for name, series := range map[string][]stats.Series{
		"in order":      {one("a", "1", 1), one("a", "2", 2), one("b", "1", 3)},
		"out of order":  {one("b", "1", 3), one("a", "2", 2), one("a", "1", 1)},
		"with one more": {one("a", "1", 1), one("a", "2", 2), one("b", "1", 3), one("c", "1", 4)},
	} {
		if diff := cmp.Diff([]float64{1, 2, 3}, valuesOf(totals, series)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name, series := range map[string][]stats.Series{
		"the first alone": {one("a", "1", 1)},
		"the last behind": {one("a", "1", 1), one("a", "3", 2)},
	} {
		if diff := cmp.Diff([]float64{1, 0, 0}, valuesOf(totals, series)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
