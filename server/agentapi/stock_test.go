package agentapi

import (
	"strings"
	"testing"

	"github.com/worktally/worktally/wire/worktallypb"
)

// TestSent_Bounded: whatever an agent sends, what the ledger looks at is small.
func TestSent_Bounded(t *testing.T) {
	var counters []*worktallypb.Series
	for range 2 * maxSeries {
		counters = append(counters, &worktallypb.Series{Name: "magicsock_a", Labels: []string{"path", "direct"}})
	}
	counters[0].Labels[1] = strings.Repeat("x", maxSent)
	if n := len(sent(counters)); n != maxSeries-1 {
		t.Errorf("%d counters, want %d", n, maxSeries-1)
	}
}
