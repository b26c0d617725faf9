package wire_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

// TestServe_MessageTooLarge sends a message beyond the bound, and one that is just
// within it: the former ends its call and is told of, and nothing else.
func TestServe_MessageTooLarge(t *testing.T) {
	var broken atomic.Int64
	client, _, _, _ := startPair(t, wire.ServeOptions{OnBroken: func() { broken.Add(1) }})
	agent := agentpb.NewDRPCAgentClient(client)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	send := func(size int) error {
		_, err := agent.UpdateStartup(ctx, &agentpb.UpdateStartupRequest{Startup: &agentpb.Startup{Version: strings.Repeat("x", size)}})
		return err
	}
	for range 3 {
		if err := send(wire.MaxMessage + 1<<16); err == nil || wire.IsUnimplemented(err) {
			t.Errorf("a message beyond the bound: %v", err)
		}
		if err := send(wire.MaxMessage - 1<<10); !wire.IsUnimplemented(err) {
			t.Errorf("a message within the bound: %v", err)
		}
	}
	for broken.Load() != 3 { // each is counted when it has been closed
		if ctx.Err() != nil {
			t.Fatalf("%d calls counted as broken, want 3", broken.Load())
		}
		time.Sleep(time.Millisecond)
	}
	got, err := agent.UpdateLifecycle(ctx, &agentpb.UpdateLifecycleRequest{Lifecycle: &agentpb.Lifecycle{State: agentpb.Lifecycle_READY}})
	if err != nil || got.GetState() != agentpb.Lifecycle_READY {
		t.Errorf("the session afterwards: %v, %v", got, err)
	}
}

// slowAgent answers nothing until it is let go on.
type slowAgent struct {
	agentpb.DRPCAgentUnimplementedServer
	running, most atomic.Int64
	goOn          chan struct{}
}

func (s *slowAgent) UpdateLifecycle(_ context.Context, r *agentpb.UpdateLifecycleRequest) (*agentpb.Lifecycle, error) {
	n := s.running.Add(1)
	defer s.running.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	<-s.goOn
	return r.GetLifecycle(), nil
}

// TestServe_StreamsAreBounded begins more calls than may run at once: no more run,
// as many wait, and those beyond are reset.
func TestServe_StreamsAreBounded(t *testing.T) {
	const limit, asked = 4, 40
	slow := &slowAgent{goOn: make(chan struct{})}
	client, _, _, _ := startPairOf(t, slow, wire.ServeOptions{MaxStreams: limit})
	agent := agentpb.NewDRPCAgentClient(client)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var answered, refused atomic.Int64
	var all sync.WaitGroup
	for range asked {
		all.Go(func() {
			if _, err := agent.UpdateLifecycle(ctx, &agentpb.UpdateLifecycleRequest{Lifecycle: &agentpb.Lifecycle{State: agentpb.Lifecycle_READY}}); err != nil {
				refused.Add(1)
			} else {
				answered.Add(1)
			}
		})
	}
	// Who comes when others have ended is answered.
	for slow.running.Load() < limit || refused.Load() < asked/2 {
		if ctx.Err() != nil {
			t.Fatalf("%d run, %d were refused", slow.running.Load(), refused.Load())
		}
		time.Sleep(time.Millisecond)
	}
	close(slow.goOn)
	all.Wait()
	if slow.most.Load() != limit || answered.Load() < limit || answered.Load() > asked/2 {
		t.Errorf("%d ran at once, %d were answered", slow.most.Load(), answered.Load())
	}
}
