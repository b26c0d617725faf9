package agentpty

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

// Commands builds the commands; *agentexec.Builder is one.
type Commands interface {
	Command(ctx context.Context, r agentexec.Request) (*exec.Cmd, error)
}

// Tally counts; *stats.Tally is one.
type Tally interface {
	OpenTerminal() *stats.Session
	TerminalFailed(stats.TerminalError)
	Drop(stats.Dropped, int)
}

// Reporter is told about connections. Its methods must neither block nor call
// back; they are called concurrently, for each id in this order.
type Reporter interface {
	// Connected says that a client has connected; ip has no port and may be "".
	Connected(id uuid.UUID, kind stats.Kind, ip string, at time.Time)
	// Disconnected says how it ended: code 0 and no reason if in order.
	Disconnected(id uuid.UUID, code int, reason string)
}

// Options of a Server.
type Options struct {
	// Log may be nil.
	Log *slog.Logger
	// Commands and Tally are required.
	Commands Commands
	Tally    Tally
	// Connections may be nil.
	Connections Reporter
	// Timeout ends a terminal that nobody is attached to. 0 means 5 min.
	Timeout time.Duration
	// HandshakeTimeout ends a connection that does not say what it wants. 0 means
	// 30 s.
	HandshakeTimeout time.Duration
	// MaxTerminals and MaxConnections bound what is open at a time; more are
	// refused. 0 means 256 and 1024.
	MaxTerminals, MaxConnections int
	// QueueBytes bounds the output that waits for one client. It is at least the
	// replay. 0 means 256 KiB.
	QueueBytes int
	// Patience is how long a client with a full queue may hold up the others
	// without taking a byte, before it is disconnected. 0 means 2 s.
	Patience time.Duration
	// WriteTimeout bounds a single write, to a client or to a terminal, and is the
	// patience with a client that is alone. 0 means 30 s.
	WriteTimeout time.Duration
	// ScreenPath is the program screen. "" means the one in PATH, "none" none.
	ScreenPath string
	// TempDir holds the settings of screen. "" means os.TempDir.
	TempDir string
}

// killGrace is how long a terminal's process may take to end after SIGHUP.
const killGrace = 2 * time.Second

// Server serves reconnecting terminals. Create it with New.
type Server struct {
	o   Options
	log *slog.Logger
	// life ends with Close.
	life context.Context
	end  context.CancelFunc

	// mu guards the fields below.
	mu        sync.Mutex
	closing   bool
	listeners map[net.Listener]struct{}
	terminals map[uuid.UUID]*terminal
	conns     int
	// work counts the connections and the terminals. It grows only under mu
	// while not closing.
	work sync.WaitGroup
}

// New checks the options and starts nothing.
func New(o Options) (*Server, error) {
	if o.Commands == nil || o.Tally == nil {
		return nil, errors.New("terminals need a command builder and a tally")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.Timeout, 5*time.Minute)
	setDefault(&o.HandshakeTimeout, 30*time.Second)
	setDefault(&o.MaxTerminals, 256)
	setDefault(&o.MaxConnections, 1024)
	setDefault(&o.QueueBytes, 256<<10)
	setDefault(&o.Patience, 2*time.Second)
	setDefault(&o.WriteTimeout, 30*time.Second)
	o.QueueBytes = max(o.QueueBytes, replayBytes)
	if o.TempDir == "" {
		o.TempDir = os.TempDir()
	}
	s := &Server{
		o: o, log: o.Log,
		listeners: make(map[net.Listener]struct{}),
		terminals: make(map[uuid.UUID]*terminal),
	}
	s.life, s.end = context.WithCancel(context.Background())
	return s, nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Serve accepts connections until the listener or the Server is closed, which is
// no error. It closes the listener and may be called for several of them.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			s.Handle(c)
		case s.life.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED):
			s.log.Warn("accept terminal connection", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-s.life.Done():
			}
		default:
			return fmt.Errorf("accept terminal connection: %w", err)
		}
	}
}

// Handle starts serving a connection, within the bound. It takes the connection
// over and does not wait.
func (s *Server) Handle(c net.Conn) {
	s.mu.Lock()
	full := s.conns >= s.o.MaxConnections
	if full || s.closing {
		s.mu.Unlock()
		if full { // counted before the client can know
			s.o.Tally.Drop(stats.DropTerminals, 1)
			s.log.Warn("terminal connection refused", "limit", s.o.MaxConnections)
		}
		c.Close()
		return
	}
	s.conns++
	s.work.Go(func() {
		s.serveConn(c)
		s.mu.Lock()
		s.conns--
		s.mu.Unlock()
	})
	s.mu.Unlock()
}

// Close refuses new connections, ends the open ones and their terminals, and
// waits for all of it until ctx ends.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()
	s.end()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.work.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for terminals: %w", context.Cause(ctx))
	}
}
