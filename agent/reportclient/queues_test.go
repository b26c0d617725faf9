package reportclient

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/appname"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

func dropped(t *stats.Tally, what stats.Dropped) float64 {
	return totalsOf(t)["agent_dropped_total\xffwhat\xff"+string(what)]
}

func TestLifecycle_ForwardOnlyAndOnce(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		entered := time.Now()
		for _, state := range []agentpb.Lifecycle_State{
			agentpb.Lifecycle_STATE_UNSPECIFIED, agentpb.Lifecycle_CREATED, agentpb.Lifecycle_STARTING, agentpb.Lifecycle_STARTING,
			agentpb.Lifecycle_SHUTTING_DOWN, agentpb.Lifecycle_READY, agentpb.Lifecycle_OFF, agentpb.Lifecycle_SHUTDOWN_ERROR,
		} {
			c.SetLifecycle(state)
		}
		time.Sleep(time.Minute)
		stop := start(t, c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.LifecycleReported(ctx); err != nil {
			t.Error(err)
		}
		stop()
		var got []agentpb.Lifecycle_State
		for _, r := range wiretest.Requests[*agentpb.UpdateLifecycleRequest](s) {
			got = append(got, r.GetLifecycle().GetState())
			if at := r.GetLifecycle().GetChangedAt().AsTime(); !at.Equal(entered) {
				t.Errorf("%s was entered at %s, reported as %s", r.GetLifecycle().GetState(), entered, at)
			}
		}
		want := []agentpb.Lifecycle_State{agentpb.Lifecycle_STARTING, agentpb.Lifecycle_SHUTTING_DOWN, agentpb.Lifecycle_OFF}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
}

func TestLifecycleReported_WaitsNoLongerThanItMay(t *testing.T) {
	c := newClient(t, nil)
	c.SetLifecycle(agentpb.Lifecycle_STARTING)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.LifecycleReported(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	c.Log(uuid.Nil, LogLine{Text: "x"})
	if err := c.LogsSent(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestLogs_BatchesBySourceAndTime(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		stop := start(t, c)
		a, b := uuid.UUID{1}, uuid.UUID{2}
		at := time.Now()
		c.Log(a, LogLine{Time: at, Level: agentpb.Log_INFO, Text: "one"})
		c.Log(b, LogLine{Time: at, Level: agentpb.Log_ERROR, Text: "other"})
		c.Log(a, LogLine{Time: at, Level: agentpb.Log_INFO, Text: "t\xffwo"})
		advance(900 * time.Millisecond)
		if n := len(s.Calls("BatchCreateLogs")); n != 0 {
			t.Errorf("%d calls before a second was over", n)
		}
		advance(400 * time.Millisecond)
		got := make(map[uuid.UUID][]string)
		for _, r := range wiretest.Requests[*agentpb.BatchCreateLogsRequest](s) {
			if len(got[uuid.UUID(r.GetLogSourceId())]) > 0 {
				t.Error("a source has two batches")
			}
			for _, l := range r.GetLogs() {
				got[uuid.UUID(r.GetLogSourceId())] = append(got[uuid.UUID(r.GetLogSourceId())], l.GetLevel().String()+" "+l.GetOutput())
			}
		}
		want := map[uuid.UUID][]string{a: {"INFO one", "INFO t❌wo"}, b: {"ERROR other"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("logs (-want +got):\n%s", diff)
		}
		c.Log(a, LogLine{Time: at, Text: "last"})
		if err := c.LogsSent(t.Context()); err != nil || len(s.Calls("BatchCreateLogs")) != 3 {
			t.Errorf("LogsSent = %v after %d calls", err, len(s.Calls("BatchCreateLogs")))
		}
		stop()
	})
}

func TestLogs_Bounds(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		c.Log(uuid.UUID{1}, LogLine{Text: strings.Repeat("x", maxLogBytes-logOverhead+1)})
		if n := dropped(c.o.Tally, stats.DropLogLines); n != 1 {
			t.Errorf("%v lines dropped: a line above the limit is one", n)
		}
		for range 60_000 { // empty ones cost something too
			c.Log(uuid.UUID{1}, LogLine{})
		}
		fit := maxLogBytes / logOverhead
		if n := dropped(c.o.Tally, stats.DropLogLines); n != float64(1+60_000-fit) {
			t.Errorf("%v lines dropped", n)
		}
		stop := start(t, c)
		advance(2 * time.Second)
		for _, r := range wiretest.Requests[*agentpb.BatchCreateLogsRequest](s) {
			size := 0
			for _, l := range r.GetLogs() {
				size += len(l.GetOutput()) + logOverhead
			}
			if size > maxLogBytes || len(r.GetLogs()) != fit || proto.Size(r) > wire.MaxMessage {
				t.Errorf("a batch of %d bytes in %d lines", size, len(r.GetLogs()))
			}
		}
		c.Log(uuid.UUID{1}, LogLine{Text: strings.Repeat("x", maxLogBytes-logOverhead)})
		advance(2 * time.Second)
		if n := len(s.Calls("BatchCreateLogs")); n != 2 {
			t.Errorf("%d batches", n)
		}
		stop()
	})
}

func TestLogs_LimitOfTheServer(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		wiretest.On(s, func(context.Context, *agentpb.BatchCreateLogsRequest) (*agentpb.BatchCreateLogsResponse, error) {
			return &agentpb.BatchCreateLogsResponse{LogLimitExceeded: true}, nil
		})
		stop := start(t, c)
		c.Log(uuid.UUID{1}, LogLine{Text: "a"})
		c.Log(uuid.UUID{2}, LogLine{Text: "b"})
		advance(3 * time.Second)
		c.Log(uuid.UUID{1}, LogLine{Text: "c"})
		advance(3 * time.Second)
		if n := len(s.Calls("BatchCreateLogs")); n != 1 || s.Sessions() != 1 {
			t.Errorf("%d calls in %d sessions", n, s.Sessions())
		}
		if n := dropped(c.o.Tally, stats.DropLogLines); n != 2 {
			t.Errorf("%v lines dropped", n)
		}
		if err := c.LogsSent(t.Context()); err != nil {
			t.Error(err)
		}
		stop()
	})
}

func TestConnections_Messages(t *testing.T) {
	at := time.Unix(1000, 0)
	for family, want := range map[appname.Family]agentpb.Connection_Type{
		appname.SSH: agentpb.Connection_SSH, appname.VSCode: agentpb.Connection_VSCODE, appname.JetBrains: agentpb.Connection_JETBRAINS,
		appname.ReconnectingPTY: agentpb.Connection_RECONNECTING_PTY, appname.Unknown: agentpb.Connection_SSH,
	} {
		m := Connection{ID: uuid.New(), Kind: stats.Kind{App: "x", Family: family}, IP: "localhost", At: at}.message()
		if m.GetType() != want || m.GetIp() != "127.0.0.1" || m.Reason != nil || m.GetAction() != agentpb.Connection_CONNECT || len(m.GetId()) != 16 {
			t.Errorf("%s: %v", family, m)
		}
	}
	m := Connection{Ended: true, Code: 7, Reason: ""}.message()
	if m.Reason == nil || m.GetStatusCode() != 7 || m.GetAction() != agentpb.Connection_DISCONNECT || m.GetTimestamp() == nil {
		t.Errorf("disconnect %v", m)
	}
}

// TestQueues_RefusalsAndBounds: what the server will not take is dropped and
// counted; what does not fit is too; the session goes on.
func TestQueues_RefusalsAndBounds(t *testing.T) {
	for name, answer := range map[string]error{"error": errors.New("no such script"), "unimplemented": wire.ErrUnimplemented} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
				wiretest.On(s, func(context.Context, *agentpb.ReportConnectionRequest) (*emptypb.Empty, error) { return nil, answer })
				wiretest.On(s, func(context.Context, *agentpb.WorkspaceAgentScriptCompletedRequest) (*agentpb.WorkspaceAgentScriptCompletedResponse, error) {
					return nil, answer
				})
				for range maxConnectionReports + 1 {
					c.ReportConnection(Connection{ID: uuid.New()})
				}
				for range maxTimings + 1 {
					c.ReportTiming(&agentpb.Timing{})
				}
				if a, b := dropped(c.o.Tally, stats.DropConnectionReports), dropped(c.o.Tally, stats.DropScriptTimings); a != 1 || b != 1 {
					t.Errorf("beyond the bounds: %v and %v", a, b)
				}
				stop := start(t, c)
				advance(time.Hour)
				stop()
				if a, b := dropped(c.o.Tally, stats.DropConnectionReports), dropped(c.o.Tally, stats.DropScriptTimings); a != maxConnectionReports+1 || b != maxTimings+1 {
					t.Errorf("refused: %v and %v", a, b)
				}
				if s.Sessions() != 1 {
					t.Errorf("%d sessions", s.Sessions())
				}
			})
		})
	}
}

// TestSession_UnservedCallsEndNothing: a server that serves only what it must.
func TestSession_UnservedCallsEndNothing(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		unserved[*agentpb.GetAnnouncementBannersRequest, *agentpb.GetAnnouncementBannersResponse](s)
		unserved[*agentpb.BatchCreateLogsRequest, *agentpb.BatchCreateLogsResponse](s)
		unserved[*agentpb.UpdateLifecycleRequest, *agentpb.Lifecycle](s)
		queueEverything(c)
		stop := start(t, c)
		advance(10 * time.Minute)
		stop()
		if s.Sessions() != 1 || len(s.Calls("GetAnnouncementBanners")) != 1 || len(s.Ledger.Windows()) == 0 {
			t.Errorf("%d sessions, %d windows", s.Sessions(), len(s.Ledger.Windows()))
		}
	})
}

func unserved[Q, R proto.Message](s *wiretest.Service) {
	wiretest.On(s, func(context.Context, Q) (r R, err error) { return r, wire.ErrUnimplemented })
}

// TestSession_BannersEveryTwoMinutes; an error of the server ends nothing.
func TestSession_BannersEveryTwoMinutes(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *Client, s *wiretest.Service) {
		var calls atomic.Int64
		wiretest.On(s, func(context.Context, *agentpb.GetAnnouncementBannersRequest) (*agentpb.GetAnnouncementBannersResponse, error) {
			if calls.Add(1) == 2 {
				return nil, errors.New("the database is away")
			}
			return &agentpb.GetAnnouncementBannersResponse{AnnouncementBanners: make([]*agentpb.BannerConfig, calls.Load())}, nil
		})
		stop := start(t, c)
		advance(3 * time.Minute)
		if len(c.Banners()) != 1 || calls.Load() != 2 {
			t.Errorf("%d banners after %d calls", len(c.Banners()), calls.Load())
		}
		advance(2 * time.Minute)
		if len(c.Banners()) != 3 || s.Sessions() != 1 {
			t.Errorf("%d banners, %d sessions", len(c.Banners()), s.Sessions())
		}
		c.BeginShutdown()
		advance(10 * time.Minute)
		if calls.Load() != 3 || len(s.Ledger.Windows()) < 25 {
			t.Errorf("after the shutdown began: %d calls, %d windows", calls.Load(), len(s.Ledger.Windows()))
		}
		stop()
	})
}
