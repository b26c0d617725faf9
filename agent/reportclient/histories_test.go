package reportclient

import (
	"fmt"
	"io/fs"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/worktally/worktally/internal/durable/faultfs"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

// TestHistories: whatever happens to agent, disk and server, the server has no more than
// was counted, and no less than was on a good disk: of each process what was counted
// until it was stopped, or 5 s before it was killed.
func TestHistories(t *testing.T) {
	for name, events := range map[string][]string{
		"a good disk":              {"", "", "kill", "power", "stop", "stock", "ours", "close"},
		"a disk that fails":        {"", "", "fail", "some", "create", "heal", "heal", "kill", "power", "stop", "stop, and the next cannot open its directory"},
		"and a stock server":       {"", "", "fail", "some", "heal", "heal", "kill", "stop", "stop, and the next cannot open its directory", "stock", "ours"},
		"and a server that closes": {"", "", "fail", "some", "heal", "heal", "kill", "power", "close", "stock", "ours"},
		"a directory that is away": {"", "", "gone", "heal", "kill", "stop"},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event { return drawEvent(t, events) }), 1, 25).Draw(rt, "steps")
				seed := rapid.Uint64().Draw(rt, "seed")
				var failure string
				synctest.Test(t, func(t *testing.T) { failure = (&history{machine: newMachine(t, seed)}).run(steps) })
				if failure != "" {
					rt.Fatal(failure)
				}
			})
		})
	}
}

// event is what happens: counts, then a while under a fault of the network, then What.
type event struct {
	Bytes int
	Fault string
	Wait  time.Duration
	What  string
}

func drawEvent(t *rapid.T, events []string) event {
	return event{
		Bytes: rapid.IntRange(0, 1000).Draw(t, "bytes"),
		Fault: rapid.SampledFrom([]string{"", "", "", "no report", "no answer", "no session"}).Draw(t, "fault"),
		Wait:  rapid.SampledFrom([]time.Duration{0, 50, 300, 4600, 10_000, 31_000, 61_000, 90_000}).Draw(t, "wait") * time.Millisecond,
		What:  rapid.SampledFrom(events).Draw(t, "what"),
	}
}

// history knows how many bytes the server may have in the end.
type history struct {
	*machine
	// least and most are of the processes before; now is what this one has counted.
	least, most, now float64
	// fails is how the disk fails, nil if it does not; failed is when it last did.
	fails  func(int, string) error
	failed time.Time
	// closes says that the server refused an epoch: if the disk has failed too, one
	// that a process did not go on with is given up (docs/guarantees.md).
	closes bool
}

func (h *history) run(steps []event) string {
	h.boot()
	defer func() { h.stop() }()
	for _, e := range steps {
		h.network(e.Fault)
		h.count(1, e.Bytes)
		h.now += float64(e.Bytes)
		advance(e.Wait)
		h.do(e.What)
	}
	h.breakDisk(nil)
	h.network("no report")
	h.service.Ledger.SetStock(false)
	advance(31 * time.Second)
	h.settle()
	least, most := h.least+h.now, h.most+h.now
	if h.closes && !h.failed.IsZero() {
		least = 0
	}
	if got := h.received(); got < least || got > most {
		return fmt.Sprintf("the server has %v bytes, which should be from %v to %v", got, least, most)
	}
	for _, r := range h.service.Ledger.Reports() {
		if r.GetRxBytes() < 0 {
			return fmt.Sprintf("a stock server got %d bytes", r.GetRxBytes())
		}
	}
	return ""
}

func (h *history) network(fault string) {
	h.service.SetFault(func(call wiretest.Call) wiretest.Fault {
		r, ok := call.Request.(*agentpb.UpdateStatsRequest)
		switch {
		case fault == "no session", fault == "no report" && ok:
			return wiretest.CutBefore
		case fault == "no answer" && ok && r.GetStats() != nil:
			return wiretest.LoseReply
		}
		return wiretest.None
	})
}

func (h *history) breakDisk(fails func(int, string) error) {
	if h.fails != nil {
		h.failed = time.Now()
	}
	h.fails = fails
	h.disk.Fail(fails)
}

func (h *history) do(what string) {
	switch what {
	case "fail":
		h.breakDisk(faultfs.With(syscall.EIO))
	case "some":
		h.breakDisk(func(int, string) error {
			if h.rng.IntN(2) == 0 {
				return syscall.EIO
			}
			return nil
		})
	case "create":
		h.breakDisk(faultfs.With(syscall.EIO, "create"))
	case "gone":
		h.breakDisk(faultfs.With(fs.ErrNotExist))
	case "heal":
		h.breakDisk(nil)
	case "kill", "power":
		kept := h.isKept()
		if kept {
			advance(promised)
		}
		h.kill(what == "power")
		h.next(kept)
	case "stop", "stop, and the next cannot open its directory":
		kept := h.isKept()
		h.stop()
		if what != "stop" {
			h.fails = faultfs.With(syscall.EIO)
		}
		h.next(kept)
	case "stock", "ours":
		h.service.Ledger.SetStock(what == "stock")
		h.network("no report") // which ends the session
		advance(31 * time.Second)
	case "close":
		h.closes = true
		h.close()
	}
}

// isKept says whether what was counted so far is on the disk, or will be within 5 s. A
// disk that has just begun to work again is given time.
func (h *history) isKept() bool {
	if h.fails != nil {
		return false
	}
	if time.Since(h.failed) < 10*time.Second {
		advance(10 * time.Second)
	}
	return h.client.Health().OutboxDurable
}

// next starts the next process.
func (h *history) next(kept bool) {
	if kept {
		h.least += h.now
	}
	h.most += h.now
	h.now = 0
	h.disk.Fail(h.fails)
	h.boot()
}
