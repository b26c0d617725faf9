package agentapps

import (
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/wire/agentpb"
)

// item is one metadata item; its fields below description are guarded by
// Metadata.mu.
type item struct {
	description *agentpb.WorkspaceAgentMetadata_Description
	running     bool
	// collected is when the last collection began, zero if there was none.
	collected time.Time
	// pending is what the server was not told yet.
	pending *result
}

// result is one collected value.
type result struct {
	at           time.Time
	value, error string
}

// seconds reads interval and timeout of a description: the nanosecond count of
// the Duration carries a number of seconds (contract agent-api.md section 4.3).
func seconds(d *durationpb.Duration) time.Duration {
	n := d.AsDuration()
	if n > math.MaxInt64/time.Second {
		return math.MaxInt64
	}
	return max(0, n) * time.Second
}

// tickSlack makes up for a tick that comes a little early: without it an item
// would be collected a whole second late every now and then.
const tickSlack = 50 * time.Millisecond

// due says whether the item is to be collected; an item without interval is
// collected once.
func (it *item) due(now time.Time) bool {
	if it.running {
		return false
	}
	interval := seconds(it.description.GetInterval())
	return it.collected.IsZero() || interval > 0 && now.Sub(it.collected) >= interval-tickSlack
}

// timeout is how long a collection may take.
func (it *item) timeout() time.Duration {
	for _, d := range []time.Duration{seconds(it.description.GetTimeout()), seconds(it.description.GetInterval())} {
		if d > 0 {
			return d
		}
	}
	return 3 * time.Second
}
