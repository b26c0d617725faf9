package wire_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
	"storj.io/drpc/drpcconn"
	"storj.io/drpc/drpcmux"
	"storj.io/drpc/drpcwire"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

// TestServe_StreamsWithoutACall opens as many streams as may run at once and makes
// a call on none: they are closed and counted, and a call that waited is answered.
func TestServe_StreamsWithoutACall(t *testing.T) {
	for what, first := range map[string][]byte{
		"nothing":         nil,
		"half an invoke":  invoke(false),
		"a message first": drpcwire.AppendFrame(nil, drpcwire.Frame{ID: drpcwire.ID{Stream: 1, Message: 1}, Kind: drpcwire.KindMessage, Data: []byte("x"), Done: true}),
	} {
		t.Run(what, func(t *testing.T) { streamsWithoutACall(t, first) })
	}
}

func invoke(done bool) []byte {
	return drpcwire.AppendFrame(nil, drpcwire.Frame{ID: drpcwire.ID{Stream: 1, Message: 1}, Kind: drpcwire.KindInvoke, Data: []byte("/x"), Done: done})
}

func streamsWithoutACall(t *testing.T, first []byte) {
	const limit = 3
	near, far := net.Pipe()
	mux := drpcmux.New()
	if err := agentpb.DRPCRegisterAgent(mux, new(echoAgent)); err != nil {
		t.Fatal(err)
	}
	var broken atomic.Int64
	ended := make(chan error, 1)
	go func() {
		ended <- wire.Serve(t.Context(), far, mux, wire.ServeOptions{
			MaxStreams: limit, CallTimeout: time.Second, OnBroken: func() { broken.Add(1) },
		})
	}()
	session, err := yamux.Client(near, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		near.Close()
		session.Close()
		<-ended
	}()
	var idle []*yamux.Stream
	for range limit {
		s, err := session.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(first); err != nil {
			t.Fatal(err)
		}
		idle = append(idle, s)
	}
	s, err := session.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	call := drpcconn.New(s) // it ends with the session
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := agentpb.NewDRPCAgentClient(call).UpdateLifecycle(ctx, &agentpb.UpdateLifecycleRequest{Lifecycle: &agentpb.Lifecycle{State: agentpb.Lifecycle_READY}})
	if err != nil || got.GetState() != agentpb.Lifecycle_READY {
		t.Errorf("the call that waited: %v, %v", got, err)
	}
	for _, s := range idle {
		_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("a stream without a call: %v", err)
		}
	}
	for broken.Load() != limit { // each is counted when it has been closed
		if ctx.Err() != nil {
			t.Fatalf("%d streams counted, want %d", broken.Load(), limit)
		}
		time.Sleep(time.Millisecond)
	}
}
