package agentapi

import (
	"sync"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/ledger"
)

// Why an agent was refused, as told in worktally_agent_rejected_total.
const (
	rejectedNoToken      = "no_token"
	rejectedBadToken     = "bad_token"
	rejectedUnknownToken = "unknown_token"
	rejectedVersion      = "version"
	rejectedUpgrade      = "upgrade"
	rejectedError        = "error"
	rejectedTooMany      = "too_many_sessions"
	rejectedPanic        = "panic"

	rejectedTooManyFailures = "too_many_failures"
	// rejectedBroken: a call that was too large, not of the protocol, or not made in time.
	rejectedBroken = "broken_call"
)

// counts are the service's own counters.
type counts struct {
	mu sync.Mutex
	m  map[countKey]uint64
}

type countKey struct{ family, label, value string }

func newCounts() *counts {
	c := &counts{m: make(map[countKey]uint64)}
	for _, r := range []string{reasonInvalidName, reasonInvalidLabel, reasonInvalidValue, reasonNotAllowed, reasonNotCollected,
		reasonNoType, reasonTypeConflict, reasonDuplicate, reasonTooMany, reasonTooManyFamilies, reasonTooManyOwn, reasonTooManyNames} {
		c.add("worktally_rejected_series_total", "reason", r, 0)
	}
	for _, r := range []string{"ok", "hello", "error"} {
		c.add("worktally_reports_total", "result", r, 0)
	}
	for _, r := range []string{rejectedNoToken, rejectedBadToken, rejectedUnknownToken, rejectedVersion, rejectedUpgrade,
		rejectedError, rejectedTooMany, rejectedPanic, rejectedTooManyFailures, rejectedBroken} {
		c.add("worktally_agent_rejected_total", "reason", r, 0)
	}
	for _, r := range []string{refusedForeignIdentity, refusedMalformed, refusedTooMany, ledger.RefusedTotalsFell,
		ledger.RefusedBadSequence, ledger.RefusedClosedEpoch, ledger.RefusedBadEpoch, ledger.RefusedTooManySeries, ledger.RefusedDuplicate, ledger.RefusedForgotten} {
		c.add("worktally_rejected_windows_total", "reason", r, 0)
	}
	for _, call := range []string{"UpdateLifecycle", "UpdateStartup", "BatchUpdateMetadata", "ScriptCompleted", "ReportConnection", "PushResourcesMonitoringUsage"} {
		c.add("worktally_missing_messages_total", "call", call, 0)
	}
	for _, what := range []string{lateConnected, lateStartup, lateLifecycle} {
		c.add("worktally_late_writes_total", "what", what, 0)
	}
	return c
}

func (c *counts) add(family, label, value string, n uint64) {
	c.mu.Lock()
	c.m[countKey{family, label, value}] += n
	c.mu.Unlock()
}

// Fill adds the service's own families to a row of the server's page.
func (s *Service) Fill(b *exposition.Builder) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for k, n := range s.c.m {
		// The vocabulary is ours; a refused sample would be a mistake of ours.
		if err := b.Add(k.family, float64(n), exposition.Label{Name: k.label, Value: k.value}); err != nil {
			panic("BUG: agentapi: " + err.Error())
		}
	}
	if err := b.Add("worktally_agent_sessions", float64(s.sessions.count())); err != nil {
		panic("BUG: agentapi: " + err.Error())
	}
}
