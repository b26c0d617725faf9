package catalog

import (
	"testing"
	"time"
)

// TestCatalog_ReplaceAgentToken: the replaced token is valid until the grace ends by
// the server's clock, the one before it no longer, and none after a rotation without
// grace. Neither is stored as it is.
func TestCatalog_ReplaceAgentToken(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		now := time.Now()
		f.now = func() time.Time { return now }
		valid := func(token string, ends time.Time) {
			t.Helper()
			who, err := f.AgentByToken(t.Context(), token)
			must(t, err)
			if who.Agent.ID != f.agent || !who.TokenEnds.Equal(ends) {
				t.Errorf("agent %s, token ends %s, want %s and %s", who.Agent.ID, who.TokenEnds, f.agent, ends)
			}
		}
		gone := func(token string) {
			t.Helper()
			_, err := f.AgentByToken(t.Context(), token)
			wantErr(t, err, ErrNotFound)
		}
		second, err := f.ReplaceAgentToken(t.Context(), f.ws.ID, "main", time.Hour)
		must(t, err)
		if left := second.OldEnds.Sub(now); left < time.Hour-time.Microsecond || left > time.Hour {
			t.Errorf("the old token ends in %s", left)
		}
		valid(second.Token, time.Time{})
		valid(f.agentToken, second.OldEnds)
		third, err := f.ReplaceAgentToken(t.Context(), f.ws.ID, "main", time.Minute)
		must(t, err)
		valid(third.Token, time.Time{})
		valid(second.Token, third.OldEnds)
		gone(f.agentToken)
		now = third.OldEnds.Add(-time.Microsecond)
		valid(second.Token, third.OldEnds)
		now = third.OldEnds
		gone(second.Token)
		valid(third.Token, time.Time{})
		fourth, err := f.ReplaceAgentToken(t.Context(), f.ws.ID, "main", MaxGrace)
		must(t, err)
		valid(third.Token, fourth.OldEnds)
		fifth, err := f.ReplaceAgentToken(t.Context(), f.ws.ID, "main", 0)
		must(t, err)
		gone(fourth.Token)
		gone(third.Token)
		valid(fifth.Token, time.Time{})
		for _, grace := range []time.Duration{-1, MaxGrace + 1} {
			_, err = f.ReplaceAgentToken(t.Context(), f.ws.ID, "main", grace)
			wantErr(t, err, ErrInvalid)
		}
		valid(fifth.Token, time.Time{})
		for _, column := range []string{"token_hash", "old_token_hash"} {
			var n int
			must(t, f.db.Reader().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM catalog_agents WHERE `+column+` IN ($1, $2)`, fourth.Token, fifth.Token).Scan(&n))
			if n != 0 {
				t.Errorf("a token is stored in %s", column)
			}
		}
	})
}
