package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/worktally/worktally/client"
	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/freeport"
	"github.com/worktally/worktally/internal/retry"
	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/tailnet"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/tailnetpb"
)

func TestMain(m *testing.M) {
	tailnet.PrepareProcess()
	testtool.Main(m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// patience is how long what must happen may take: much longer than it does, for
// machines that are busy.
const patience = time.Minute

// world is a server that can be started again, a workspace, and its agent, which
// sends back what it gets on port 7.
type world struct {
	t       *testing.T
	o       Options
	server  *Server
	stop    func()
	url     *url.URL
	admin   string
	agentID uuid.UUID
	agent   *tailnet.Node
}

func newWorld(t *testing.T, o Options) *world {
	t.Helper()
	w := &world{t: t, o: o}
	// While the server is away its port must stay free: those on port 0 are of the range
	// from which outgoing connections get theirs, even those to the server itself.
	port, err := freeport.Get()
	must(t, err)
	if w.o.HTTPAddress = fmt.Sprint("127.0.0.1:", port); w.o.StateDir == "" {
		w.o.StateDir = t.TempDir()
	}
	var first strings.Builder
	w.o.FirstToken = &first
	w.start()
	w.url = &url.URL{Scheme: "http", Host: w.o.HTTPAddress}
	lines := strings.Split(strings.TrimSpace(first.String()), "\n")
	w.admin = lines[len(lines)-1]
	w.startAgent(w.apply("dev"))
	return w
}

func (w *world) start() {
	w.t.Helper()
	s, err := New(w.t.Context(), w.o)
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	w.server = s
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the server ended: %v", err)
		}
	})
	w.t.Cleanup(w.stop)
}

// call asks the server without a network between.
func (w *world) call(token, method, path, body string, status int) string {
	w.t.Helper()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.Header.Set(wire.TokenHeader, token)
	rec := httptest.NewRecorder()
	w.server.api.ServeHTTP(rec, req)
	if rec.Code != status {
		w.t.Fatalf("%s %s: %d, want %d: %s", method, path, rec.Code, status, rec.Body)
	}
	return rec.Body.String()
}

// apply makes a workspace of the administrator's and returns the agent's token.
func (w *world) apply(name string) (token string) {
	w.t.Helper()
	text := w.call(w.admin, "POST", "/api/worktally/v1/workspaces", "name: "+name+"\nagents: [{name: main}]", http.StatusCreated)
	_, rest, _ := strings.Cut(text, `"tokens":{"main":"`)
	token, _, _ = strings.Cut(rest, `"`)
	ws, err := w.server.catalog.WorkspaceByName(w.t.Context(), "admin", name)
	must(w.t, err)
	w.agentID = ws.Agents[0].ID
	return token
}

func (w *world) startAgent(token string) {
	w.t.Helper()
	node, err := tailnet.New(tailnet.Options{ID: w.agentID, AccessURL: w.url})
	must(w.t, err)
	w.agent = node
	l, err := node.Listen(7)
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { echo(&wg, l) })
	wg.Go(func() { w.keepAgent(ctx, token) })
	w.t.Cleanup(func() {
		cancel()
		_ = l.Close()
		_ = node.Close()
		wg.Wait()
	})
	poll(w.t, "the agent's node", func() bool { return w.server.coordinator.Node(w.agentID) != nil })
}

func echo(wg *sync.WaitGroup, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		})
	}
}

// keepAgent holds the agent's session, with new ones after it has ended.
func (w *world) keepAgent(ctx context.Context, token string) {
	for ctx.Err() == nil {
		_ = w.agentSession(ctx, token)
		_ = retry.Sleep(ctx, 20*time.Millisecond)
	}
}

func (w *world) agentSession(ctx context.Context, token string) error {
	ws, _, err := websocket.Dial(ctx, w.url.String()+"/api/v2/workspaceagents/me/rpc?version=2.6", &websocket.DialOptions{
		HTTPHeader: http.Header{"Cookie": {wire.TokenCookie + "=" + token}},
	})
	if err != nil {
		return err
	}
	conn, err := wire.NewClient(websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
	if err != nil {
		return err
	}
	defer conn.Close()
	return follow(ctx, conn, w.agent)
}

// follow lets a node live from a session.
func follow(ctx context.Context, conn *wire.Client, n *tailnet.Node, destinations ...uuid.UUID) error {
	api := tailnetpb.NewDRPCTailnetClient(conn)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		select {
		case <-conn.Closed():
			return errors.New("the server ended the session")
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error { return n.FollowRelayMaps(ctx, api) })
	g.Go(func() error { return n.Coordinate(ctx, api, destinations...) })
	return g.Wait()
}

// person is somebody's client.
type person struct {
	*client.Conn
	t *testing.T

	mu    sync.Mutex
	conns []net.Conn
}

// dial reaches the agent as a person.
func (w *world) dial(token, workspace string) *person {
	w.t.Helper()
	p := &person{t: w.t}
	dialer := &net.Dialer{}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err == nil {
			p.mu.Lock()
			p.conns = append(p.conns, c)
			p.mu.Unlock()
		}
		return c, err
	}}
	var err error
	p.Conn, err = client.Dial(w.t.Context(), client.Options{
		Workspace: workspace, WaitTimeout: patience,
		API: client.API{URL: w.url, Token: token, HTTPClient: &http.Client{Transport: transport}},
	})
	must(w.t, err)
	w.t.Cleanup(func() { _ = p.Close(); transport.CloseIdleConnections() })
	return p
}

// cut ends the client's connections with the server the hard way.
func (p *person) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
	p.conns = nil
}

// stream opens a connection to what sends everything back.
func (p *person) stream() net.Conn {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	c, err := p.DialPort(ctx, 7)
	must(p.t, err)
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

// alive says whether bytes come back.
func alive(c net.Conn, within time.Duration) error {
	_ = c.SetDeadline(time.Now().Add(within))
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 4))
	return err
}

// peers are those that the agent knows.
func (w *world) peers() map[uuid.UUID]netip.Addr {
	m := make(map[uuid.UUID]netip.Addr)
	for _, p := range w.agent.Peers() {
		m[p.ID] = p.Addresses[0]
	}
	return m
}

// page is the server's page as text.
func (w *world) page() string {
	w.t.Helper()
	var b strings.Builder
	page := w.server.publisher.Page()
	must(w.t, page.Write(&b, exposition.Text))
	return b.String()
}
