package reportclient

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/wire/agentpb"
)

// connectionAPI answers connection reports as told.
type connectionAPI struct {
	agentpb.DRPCAgentClient
	answer func(context.Context) error
}

func (a connectionAPI) ReportConnection(ctx context.Context, _ *agentpb.ReportConnectionRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, a.answer(ctx)
}

// TestDelivery_SilenceIsNoRefusal: a report that the server refuses is given up; one
// to which it says nothing ends the session and goes with the next.
func TestDelivery_SilenceIsNoRefusal(t *testing.T) {
	for name, tc := range map[string]struct {
		answer  func(context.Context) error
		dropped float64
		ends    bool
	}{
		"refused": {func(context.Context) error { return errors.New("no") }, 1, false},
		"silence": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 0, true},
		"taken":   {func(context.Context) error { return nil }, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tally := stats.New(stats.Options{})
				q := newConnectionQueue(tally, newSignal())
				q.queue.put(Connection{ID: uuid.New(), At: time.Now()}.message())
				d := &delivery{api: connectionAPI{answer: tc.answer}, senders: []sender{{"report connection", q.next, q.drop}}}
				_, err := d.sendAll(t.Context())
				if (err != nil) != tc.ends {
					t.Errorf("it ends with %v", err)
				}
				if _, waits := q.queue.head(); waits != tc.ends {
					t.Errorf("the report waits: %t", waits)
				}
				dropped := 0.0
				for _, s := range tally.Snapshot().Totals {
					if s.Name == "agent_dropped_total" {
						dropped += s.Value
					}
				}
				if dropped != tc.dropped {
					t.Errorf("%v reports were dropped, want %v", dropped, tc.dropped)
				}
			})
		})
	}
}
