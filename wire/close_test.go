//go:build unix

package wire_test

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"storj.io/drpc/drpcmux"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

// slowToClose takes its time, as a websocket does whose peer does not answer.
type slowToClose struct {
	net.Conn
	closing chan struct{}
	release chan struct{}
}

func (c *slowToClose) Close() error {
	select {
	case c.closing <- struct{}{}:
	default:
	}
	<-c.release
	return c.Conn.Close()
}

// silentAgent answers nothing until the session ends.
type silentAgent struct {
	agentpb.DRPCAgentUnimplementedServer
	asked chan struct{}
}

func (s *silentAgent) UpdateLifecycle(ctx context.Context, _ *agentpb.UpdateLifecycleRequest) (*agentpb.Lifecycle, error) {
	s.asked <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestClient_CloseIsIdle: who reads from a stream waits while the connection is
// being closed, and does not ask again and again.
func TestClient_CloseIsIdle(t *testing.T) {
	a, b := net.Pipe()
	server := &silentAgent{asked: make(chan struct{}, 1)}
	mux := drpcmux.New()
	if err := agentpb.DRPCRegisterAgent(mux, server); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- wire.Serve(context.Background(), b, mux, wire.ServeOptions{}) }()
	slow := &slowToClose{Conn: a, closing: make(chan struct{}, 1), release: make(chan struct{})}
	client, err := wire.NewClient(slow)
	if err != nil {
		t.Fatal(err)
	}
	called := make(chan error, 1)
	go func() {
		_, err := agentpb.NewDRPCAgentClient(client).UpdateLifecycle(context.Background(), &agentpb.UpdateLifecycleRequest{})
		called <- err
	}()
	<-server.asked
	closed := make(chan error, 1)
	go func() { closed <- client.Close() }()
	<-slow.closing
	const d = 500 * time.Millisecond
	began, before := time.Now(), cpu(t)
	<-time.After(d)
	if used, took := cpu(t)-before, time.Since(began); used > took/2 {
		t.Errorf("closing took %s of CPU in %s", used, took)
	}
	close(slow.release)
	<-closed // an error says only that it is closed
	if err := <-called; err == nil {
		t.Error("the call succeeded")
	}
	<-ended
}

func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
