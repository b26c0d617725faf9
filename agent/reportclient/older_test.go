package reportclient

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/durable/faultfs"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
	"github.com/worktally/worktally/wire/worktallypb"
)

// TestOlder_Joint: three processes. The first one's disk fails while it reports, the
// second counts without a server, the third cannot open the directory at first.
func TestOlder_Joint(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.count(1, 10)
		advance(6 * time.Second) // a checkpoint
		m.disk.Fail(faultfs.With(syscall.EIO))
		m.count(10, 1000)
		advance(120 * time.Second) // reported, not kept
		had := m.received()
		if had != 1110 {
			t.Fatalf("the server has %v", had)
		}
		m.kill(false)
		m.service.SetFault(cutBefore)
		m.boot()
		m.count(5, 500) // on a good disk, without a server
		advance(31 * time.Second)
		m.stop()
		m.disk.Fail(faultfs.With(syscall.EIO))
		m.service.SetFault(nil)
		m.boot()
		advance(40 * time.Second)
		m.disk.Fail(nil)
		m.count(0, 0)
		m.wantSettled(2+1+10+5, 1610)
	})
}

// TestOlder_JointDeliveredAndNotKept: the first process counts without a server, so that
// its epoch is still to be compared where it was taken over. The second begins in memory
// (the directory is taken, or fails), opens it on a disk without room, and delivers what
// it found. It dies; the third finds what the second found.
func TestOlder_JointDeliveredAndNotKept(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.stop()
		m.service.SetFault(cutBefore)
		m.boot()
		m.count(5, 500)
		advance(31 * time.Second)
		m.stop()
		m.disk.Fail(faultfs.With(syscall.EIO))
		m.boot()
		advance(10 * time.Second)
		m.disk.Fail(faultfs.With(syscall.ENOSPC, "create", "write")) // what is there can be opened
		m.service.SetFault(nil)
		advance(60 * time.Second)
		if got := m.received(); got > 600 {
			t.Errorf("the server has %v already", got)
		}
		m.kill(false)
		m.boot()
		m.count(1, 1)
		m.wantSettled(2+5+1, 601)
	})
}

// TestOlder_JointAfterARename: the same on a good disk: an agent is renamed, and the
// directory of its new name has such an epoch. It dies before its first checkpoint there.
func TestOlder_JointAfterARename(t *testing.T) {
	for range 30 { // the moment of the report after a reconnect is random
		onMachine(t, func(t *testing.T, m *machine) {
			m.stop()
			m.service.SetFault(cutBefore)
			m.boot()
			m.count(5, 500)
			advance(31 * time.Second)
			m.kill(false) // "main" has an epoch that is to be compared
			m.dir = func(agent string) string {
				if agent == "main" {
					return "/state"
				}
				return "/other"
			}
			m.service.SetFault(nil)
			m.manifest.AgentName = "other"
			m.boot()
			wiretest.On(m.service, func(context.Context, *agentpb.GetManifestRequest) (*agentpb.Manifest, error) { return m.manifest, nil })
			advance(20 * time.Second)
			m.manifest.AgentName = "main"
			m.switchTo(false)
			for i := 0; i < 300 && m.received() < 600; i++ {
				advance(100 * time.Millisecond)
			}
			m.kill(false)
			m.boot()
			m.count(1, 1)
			m.wantSettled(2+5+1, 601)
		})
	}
}

// refuseForeign refuses what is not the workspace's agent's, as agentapi does.
func (m *machine) refuseForeign(agent func() string) {
	m.service.Ledger.SetRefuse(func(w *worktallypb.Window) string {
		if w.GetAgentName() != agent() {
			return "foreign_identity"
		}
		return ""
	})
}

// TestOlder_RenamedOnAFailingDisk: what was counted under another name is kept from a
// server that would refuse it, until the agent has that name again.
func TestOlder_RenamedOnAFailingDisk(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		r := m.client.reporter
		name := "main"
		r.dir = func(_ uuid.UUID, agent string) string { return "/" + agent }
		m.refuseForeign(func() string { return name })
		id := *r.owner()
		m.service.SetFault(cutBefore)
		m.disk.Fail(faultfs.With(syscall.EIO))
		m.count(1, 10)
		name = "other"
		r.identify(identity{id.workspace, "other"})
		m.disk.Fail(nil)
		m.service.SetFault(nil)
		m.manifest.AgentName = "other"
		m.count(1, 20)
		advance(2 * time.Minute)
		m.service.SetFault(cutBefore)
		name = "main"
		m.manifest.AgentName = "main"
		r.identify(id)
		m.service.SetFault(nil)
		m.wantSettled(4, 130)
	})
}
