package wire_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"storj.io/drpc/drpcmux"

	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/internal/vectors"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

func TestMain(m *testing.M) { testtool.Main(m) }

// echoAgent serves two calls and leaves the others unimplemented.
type echoAgent struct {
	agentpb.DRPCAgentUnimplementedServer
	calls atomic.Int64
}

func (e *echoAgent) UpdateLifecycle(_ context.Context, r *agentpb.UpdateLifecycleRequest) (*agentpb.Lifecycle, error) {
	e.calls.Add(1)
	return r.GetLifecycle(), nil
}

func (e *echoAgent) GetAnnouncementBanners(context.Context, *agentpb.GetAnnouncementBannersRequest) (*agentpb.GetAnnouncementBannersResponse, error) {
	return nil, errors.New("the database is away")
}

// recordingConn keeps what is written to it.
type recordingConn struct {
	net.Conn
	mu      sync.Mutex
	written bytes.Buffer
}

func (c *recordingConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.written.Write(p)
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func startPair(t *testing.T, o wire.ServeOptions) (*wire.Client, *recordingConn, *recordingConn, <-chan error) {
	t.Helper()
	return startPairOf(t, new(echoAgent), o)
}

func startPairOf(t *testing.T, served agentpb.DRPCAgentServer, o wire.ServeOptions) (*wire.Client, *recordingConn, *recordingConn, <-chan error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	a, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	agentSide, serverSide := &recordingConn{Conn: a}, &recordingConn{Conn: b}
	mux := drpcmux.New()
	if err := agentpb.DRPCRegisterAgent(mux, served); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- wire.Serve(ctx, serverSide, mux, o)
		close(ended)
	}()
	client, err := wire.NewClient(agentSide)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		cancel()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Error("Serve did not return")
		}
	})
	return client, agentSide, serverSide, ended
}

func TestSession_CallsAndErrors(t *testing.T) {
	client, _, _, _ := startPair(t, wire.ServeOptions{})
	agent := agentpb.NewDRPCAgentClient(client)
	ctx := context.Background()
	got, err := agent.UpdateLifecycle(ctx, &agentpb.UpdateLifecycleRequest{Lifecycle: &agentpb.Lifecycle{State: agentpb.Lifecycle_READY}})
	if err != nil || got.GetState() != agentpb.Lifecycle_READY {
		t.Fatalf("UpdateLifecycle = %v, %v", got, err)
	}
	if _, err := agent.PushContextState(ctx, &agentpb.PushContextStateRequest{}); !wire.IsUnimplemented(err) {
		t.Errorf("an unserved call must answer code 12, got %v", err)
	}
	if _, err := agent.GetAnnouncementBanners(ctx, &agentpb.GetAnnouncementBannersRequest{}); err == nil || wire.IsUnimplemented(err) {
		t.Errorf("an ordinary error must have code 0, got %v", err)
	}
}

// TestSession_FramesLikeTheRecording compares the packets of one unary call with
// those that an unmodified agent and server exchanged.
func TestSession_FramesLikeTheRecording(t *testing.T) {
	client, agentSide, serverSide, _ := startPair(t, wire.ServeOptions{})
	request := new(agentpb.UpdateLifecycleRequest)
	if err := unmarshalVector(t, "005-UpdateLifecycle-request.pb", request); err != nil {
		t.Fatal(err)
	}
	if _, err := agentpb.NewDRPCAgentClient(client).UpdateLifecycle(context.Background(), request); err != nil {
		t.Fatal(err)
	}
	recorded := recordedStream(t, "005-UpdateLifecycle-request.pb")
	for _, side := range []struct {
		name, file string
		conn       *recordingConn
		kinds      []byte
	}{
		{"agent", "session-agent-to-server.bin", agentSide, []byte{vectors.KindInvoke, vectors.KindMessage, vectors.KindCloseSend}},
		{"server", "session-server-to-agent.bin", serverSide, []byte{vectors.KindMessage}},
	} {
		want, err := vectors.Streams(vectors.Read(t, side.file))
		if err != nil {
			t.Fatal(err)
		}
		got := eventually(t, side.conn, len(side.kinds))
		for i, kind := range side.kinds {
			w, g := want[recorded][i], got[i]
			if g.Kind != kind || w.Kind != kind || !bytes.Equal(w.Data, g.Data) || w.Stream != g.Stream || w.Message != g.Message {
				t.Errorf("%s packet %d: recorded %+v, ours %+v", side.name, i, w, g)
			}
		}
	}
}

// eventually returns the packets of yamux stream 1 as soon as n are there.
func eventually(t *testing.T, c *recordingConn, n int) []vectors.Packet {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		c.mu.Lock()
		written := bytes.Clone(c.written.Bytes())
		c.mu.Unlock()
		streams, err := vectors.Streams(written)
		if err == nil && len(streams[1]) >= n {
			return streams[1]
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d packets wanted, have %v (%v)", n, streams, err)
		}
		time.Sleep(time.Millisecond)
	}
}

func recordedStream(t *testing.T, file string) uint32 {
	t.Helper()
	for _, e := range vectors.Index(t) {
		if e.File == file {
			return e.YamuxStream
		}
	}
	t.Fatalf("%s is not in the index", file)
	return 0
}

func TestServe_PingsAndEndsWhenTheSessionIsRefused(t *testing.T) {
	var beats atomic.Int64
	outdated := errors.New("build is outdated")
	_, _, _, ended := startPair(t, wire.ServeOptions{PingInterval: 5 * time.Millisecond, OnPing: func() error {
		if beats.Add(1) == 3 {
			return outdated
		}
		return nil
	}})
	select {
	case err := <-ended:
		if !errors.Is(err, outdated) {
			t.Errorf("Serve = %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the session goes on")
	}
	if beats.Load() != 3 {
		t.Errorf("%d beats", beats.Load())
	}
}

func TestServe_EndsWhenThePeerCloses(t *testing.T) {
	client, _, _, ended := startPair(t, wire.ServeOptions{})
	_ = client.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, io.EOF) {
			t.Errorf("Serve = %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Serve goes on")
	}
}

// FuzzServe feeds a server arbitrary bytes: it must end without a panic.
func FuzzServe(f *testing.F) {
	f.Add(vectors.Read(f, "session-agent-to-server.bin")[:2000])
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		client, server := net.Pipe()
		mux := drpcmux.New()
		if err := agentpb.DRPCRegisterAgent(mux, new(echoAgent)); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- wire.Serve(context.Background(), server, mux, wire.ServeOptions{}) }()
		var drained sync.WaitGroup
		drained.Go(func() { _, _ = io.Copy(io.Discard, client) })
		_ = client.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = client.Write(input)
		_ = client.Close()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Fatal("Serve goes on after the end of the connection")
		}
		drained.Wait()
	})
}
