package reportclient

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/worktally/worktally/internal/durable/faultfs"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

// loseReplyToStock loses the answer to the next report; a stock server stands there then.
func (m *machine) loseReplyToStock() {
	done := false
	m.service.SetFault(func(call wiretest.Call) wiretest.Fault {
		if r, ok := call.Request.(*agentpb.UpdateStatsRequest); !done && ok && r.GetStats() != nil {
			done = true
			return wiretest.LoseReply
		}
		return wiretest.None
	})
	first := true
	wiretest.On(m.service, func(ctx context.Context, r *agentpb.UpdateStatsRequest) (*agentpb.UpdateStatsResponse, error) {
		resp, err := m.service.Ledger.UpdateStats(ctx, r)
		if first && r.GetStats() != nil {
			first = false
			m.service.Ledger.SetStock(true)
		}
		return resp, err
	})
}

// switchTo lets a server of one kind or the other answer the next session.
func (m *machine) switchTo(stock bool) {
	m.service.Ledger.SetStock(stock)
	m.reconnect()
}

// reconnect ends the session by a call that fails.
func (m *machine) reconnect() {
	m.service.SetFault(cutBefore)
	m.client.SetLifecycle(agentpb.Lifecycle_STARTING)
	m.client.SetLifecycle(agentpb.Lifecycle_READY)
	advance(time.Millisecond)
	m.service.SetFault(nil)
}

// TestSwitch_LostAnswerThenRefused: our server has a report whose answer was lost; a
// stock server answers in between; ours comes back and takes nothing more of the epoch.
func TestSwitch_LostAnswerThenRefused(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.count(1, 10)
		m.loseReplyToStock()
		advance(95 * time.Second)
		if len(m.service.Ledger.Reports()) == 0 {
			t.Fatal("the stock server got nothing")
		}
		m.service.Ledger.SetStock(false)
		m.service.SetFault(cutBefore)
		m.count(1, 20)
		advance(31 * time.Second)
		m.close()
		m.wantSettled(4, 130)
	})
}

// TestSwitch_LostAnswerThenRestartThenRefused: the same with a restart of the agent.
func TestSwitch_LostAnswerThenRestartThenRefused(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.count(1, 10)
		m.loseReplyToStock()
		advance(95 * time.Second)
		m.kill(false)
		m.service.Ledger.SetStock(false)
		m.close()
		m.boot()
		m.count(1, 20)
		m.wantSettled(4, 130)
	})
}

// TestSwitch_OlderEpochsWaitForOurs: what an earlier process left waits in an epoch of
// its own; a stock server answers a report, and then ours is there again.
func TestSwitch_OlderEpochsWaitForOurs(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.service.SetFault(cutBefore)
		m.count(2, 20)
		m.stop() // 2 and 20 are on the disk
		m.disk.Fail(faultfs.With(syscall.EIO))
		m.boot()
		m.count(4, 40)
		advance(31 * time.Second)
		m.disk.Fail(nil)
		advance(31 * time.Second) // it can be opened again
		m.service.Ledger.SetStock(true)
		m.service.SetFault(nil)
		advance(2 * time.Minute)
		if len(m.service.Ledger.Reports()) == 0 {
			t.Fatal("the stock server got nothing")
		}
		m.switchTo(false)
		m.settle()
		m.wantSettled(8, 160)
	})
}

// TestStock_BytesOfAnOlderEpoch: what an earlier process left is not taken for the
// newest, so that a stock server gets no bytes below zero.
func TestStock_BytesOfAnOlderEpoch(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.service.Ledger.SetStock(true)
		m.service.SetFault(cutBefore)
		m.count(2, 20)
		m.stop() // on the disk
		m.disk.Fail(faultfs.With(syscall.EIO))
		m.service.SetFault(nil)
		m.boot()
		for range 20 { // the moment of the report after a reconnect is random
			m.count(4, 4000)
			m.disk.Fail(faultfs.With(syscall.EIO))
			advance(30 * time.Second)
			m.disk.Fail(nil)
			m.count(1, 1)
			advance(5 * time.Second) // a checkpoint opens it
			m.switchTo(true)
		}
		advance(2 * time.Minute)
		for _, r := range m.service.Ledger.Reports() {
			if r.GetRxBytes() < 0 {
				t.Errorf("a report of %d bytes", r.GetRxBytes())
			}
		}
	})
}
