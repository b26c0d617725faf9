package agentapi

import (
	"errors"
	"testing"

	"github.com/google/uuid"
)

// TestSessions_BoundHoldsWhileTheOldEnd: when many come at once those that have to go
// are not gone yet, and still there is room for no more.
func TestSessions_BoundHoldsWhileTheOldEnd(t *testing.T) {
	s, agent := newSessions(), uuid.UUID{1}
	const all = 5 * maxPerKind
	ended := make([]error, all)
	for i := range all {
		_, evicted, ok := s.add(agent, monitored, "token", func(err error) { ended[i] = err })
		if !ok || evicted != (i >= maxPerKind) {
			t.Errorf("session %d: let in %v, for another one %v", i, ok, evicted)
		}
	}
	for i, err := range ended {
		if got := errors.Is(err, errTooMany); got != (i < all-maxPerKind) {
			t.Errorf("session %d has to go: %v", i, got)
		}
	}
}
