package wire_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// TestClient_MessageThatCannotBeWritten: it is an error of its call, at once. Found
// by faults -only hostile, seed 1: now and then the call waited for five minutes.
func TestClient_MessageThatCannotBeWritten(t *testing.T) {
	bad := &agentpb.UpdateStatsRequest{Worktally: &worktallypb.ReportRequest{Windows: []*worktallypb.Window{{AgentName: "\xff"}}}}
	for range 200 {
		near, far := net.Pipe()
		var server sync.WaitGroup
		server.Go(func() { _ = wire.Serve(t.Context(), far, nil, wire.ServeOptions{}) })
		c, err := wire.NewClient(near)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = agentpb.NewDRPCAgentClient(c).UpdateStats(context.Background(), bad)
		if took := time.Since(began); err == nil || took > 30*time.Second {
			t.Fatalf("after %s: %v", took, err)
		}
		_ = c.Close()
		server.Wait()
	}
}
