package wiretest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"
	"storj.io/drpc"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

// Token is what a Server accepts by default.
const Token = "5d1f3e0a-7c1b-4c62-9d57-2f0c8b6f4a11"

// Options of a Server. The zero value is a server of ours with a small manifest.
type Options struct {
	// Manifest is what GetManifest answers; nil means NewManifest().
	Manifest *agentpb.Manifest
	// Token is the only accepted one; "" means Token.
	Token string
	// TokenFrom finds the token of a request; nil means wire.TokenFrom.
	TokenFrom func(*http.Request) string
	// Version is that of the server; zero means 2.6, of July 2025.
	Version wire.Version
	// Reinit answers the reinit endpoint; nil answers 409.
	Reinit http.HandlerFunc
}

// Server is a Service behind HTTP.
type Server struct {
	*Service
	// URL is the access URL.
	URL *url.URL

	o    Options
	http *httptest.Server
	wait sync.WaitGroup
	// mu guards the fields below.
	mu       sync.Mutex
	open     map[net.Conn]struct{}
	requests []*http.Request
	down     bool
}

// Start starts a server that ends with the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Manifest == nil {
		o.Manifest = NewManifest()
	}
	if o.Token == "" {
		o.Token = Token
	}
	if o.TokenFrom == nil {
		o.TokenFrom = wire.TokenFrom
	}
	if o.Version == (wire.Version{}) {
		o.Version = wire.Version{Major: 2, Minor: 6}
	}
	if o.Reinit == nil {
		o.Reinit = func(w http.ResponseWriter, _ *http.Request) {
			wire.WriteError(w, http.StatusConflict, wire.Error{Message: "The workspace is not prebuilt."})
		}
	}
	s := &Server{Service: NewService(o.Manifest), o: o, open: make(map[net.Conn]struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v2/workspaceagents/me/rpc", s.rpc)
	mux.HandleFunc("GET /api/v2/workspaceagents/me/reinit", s.reinit)
	s.http = httptest.NewUnstartedServer(mux)
	s.http.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
	s.http.Start()
	u, err := url.Parse(s.http.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.URL = u
	t.Cleanup(func() {
		s.SetDown(true)
		s.http.CloseClientConnections()
		s.http.Close()
		s.wait.Wait()
	})
	return s
}

type connKey struct{}

// SetDown cuts all sessions and refuses new ones until it is called with false.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	s.down = down
	s.mu.Unlock()
	if down {
		s.Cut()
	}
}

// Cut ends all open sessions without a word.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		_ = c.Close()
	}
}

// Requests returns the HTTP requests, oldest first.
func (s *Server) Requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.requests...)
}

// enter records a request and says whether it may pass; if not it was answered.
func (s *Server) enter(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	s.requests = append(s.requests, r.Clone(context.Background()))
	down := s.down
	s.mu.Unlock()
	switch token := s.o.TokenFrom(r); {
	case down:
		wire.WriteError(w, http.StatusServiceUnavailable, wire.Error{Message: "The server is down."})
	case token == "":
		wire.WriteError(w, http.StatusUnauthorized, wire.Error{Message: `Cookie "` + wire.TokenCookie + `" must be provided.`})
	case token != s.o.Token:
		wire.WriteError(w, http.StatusUnauthorized, wire.Error{Message: "Workspace agent not authorized.", Detail: "The agent cannot authenticate until the workspace provision job has been completed."})
	default:
		return true
	}
	return false
}

func (s *Server) reinit(w http.ResponseWriter, r *http.Request) {
	if s.enter(w, r) {
		s.o.Reinit(w, r)
	}
}

func (s *Server) rpc(w http.ResponseWriter, r *http.Request) {
	if !s.enter(w, r) {
		return
	}
	want, err := wire.ParseVersion(r.URL.Query().Get("version"))
	if err == nil {
		err = s.o.Version.Accept(want)
	}
	if err != nil {
		wire.WriteError(w, http.StatusBadRequest, wire.Error{
			Message: "Unknown or unsupported API version", Validations: []wire.Validation{{Field: "version", Detail: err.Error()}},
		})
		return
	}
	tcp := r.Context().Value(connKey{}).(net.Conn)
	s.mu.Lock()
	if s.down {
		s.mu.Unlock()
		_ = tcp.Close()
		return
	}
	s.open[tcp] = struct{}{}
	s.wait.Add(1)
	s.mu.Unlock()
	defer func() {
		_ = tcp.Close()
		s.mu.Lock()
		delete(s.open, tcp)
		s.mu.Unlock()
		s.wait.Done()
	}()
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return
	}
	ws.SetReadLimit(-1)
	conn := websocket.NetConn(context.Background(), ws, websocket.MessageBinary)
	h := &session{s: s.Service, number: s.newSession(), cut: func() { _ = tcp.Close() }}
	_ = wire.Serve(context.Background(), conn, h, wire.ServeOptions{PingInterval: time.Minute}) // how it ended is the test's business
}

// session serves the calls of one session.
type session struct {
	s      *Service
	number int
	cut    func()
}

// HandleRPC implements drpc.Handler.
func (h *session) HandleRPC(stream drpc.Stream, rpc string) error {
	if ok, err := h.tailnet(stream, rpc); ok {
		return err
	}
	m, ok := h.s.methods[rpc]
	if !ok {
		return fmt.Errorf("unknown rpc: %q", rpc)
	}
	request := reflect.New(m.request).Interface().(proto.Message)
	if err := stream.MsgRecv(request, m.enc); err != nil {
		return err
	}
	response, cut, err := h.s.answer(stream.Context(), h.number, rpc, request)
	if cut {
		h.cut()
	}
	if err != nil {
		return err
	}
	if err := stream.MsgSend(response, m.enc); err != nil {
		return err
	}
	return stream.CloseSend()
}
