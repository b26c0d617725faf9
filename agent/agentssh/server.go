package agentssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/retry"
)

// Why a connection or a session ended before its time; the first cause counts.
var (
	errShutdown = errors.New("server is closing")
	errTimedOut = errors.New("client answered no keepalive")
	errGone     = errors.New("client is gone")
	errEvicted  = errors.New("display taken by another session")
)

// Server is an SSH server. Create it with New; it may serve any number of
// listeners until Close.
type Server struct {
	o        Options
	log      *slog.Logger
	keyed    *ssh.ServerConfig
	trusting *ssh.ServerConfig
	buffers  sync.Pool // of *[]byte
	displays displays

	handshakes handshakes
	files      atomic.Int64 // SFTP servers that have not ended

	ctx  context.Context
	stop context.CancelCauseFunc
	wg   sync.WaitGroup

	mu        sync.Mutex // guards the fields below
	closing   bool
	conns     int
	listeners map[net.Listener]struct{}
	processes map[*process]struct{}
}

// New returns a server that serves nothing yet.
func New(o Options) (*Server, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Server{
		o: o, log: o.Log,
		buffers:   sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }},
		listeners: make(map[net.Listener]struct{}),
		processes: make(map[*process]struct{}),
	}
	s.displays.inUse = make(map[int]*display)
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	s.trusting = serverConfig(o.HostKey)
	s.trusting.NoClientAuth = true
	s.keyed = s.trusting
	if o.AuthorizedKeys != nil {
		s.keyed = serverConfig(o.HostKey)
		s.keyed.PublicKeyCallback = s.checkKey
	}
	return s, nil
}

// serverConfig leaves out what an audit of the protocol complains about: NIST
// curves, SHA-1, and MACs that do not cover the ciphertext. Counter mode stays
// for clients that know nothing newer.
func serverConfig(key ssh.Signer) *ssh.ServerConfig {
	c := &ssh.ServerConfig{}
	c.KeyExchanges = []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519}
	c.Ciphers = []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES256CTR, ssh.CipherAES128CTR}
	c.MACs = []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM}
	c.AddHostKey(key)
	return c
}

func (s *Server) checkKey(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	keys, err := s.o.AuthorizedKeys()
	if err != nil {
		s.log.Error("authorized keys are unreadable, nobody is let in", "err", err)
		return nil, err
	}
	for _, k := range keys {
		if bytes.Equal(k.Marshal(), key.Marshal()) {
			return nil, nil
		}
	}
	return nil, fmt.Errorf("key %s is not authorized", ssh.FingerprintSHA256(key))
}

// HandleTrusted starts serving a connection whose network has decided already who
// may come in. It takes the connection over and does not wait.
func (s *Server) HandleTrusted(nc net.Conn) { s.handle(nc, s.trusting) }

// Serve lets in whoever Options.AuthorizedKeys allows, until Close (nil) or until
// the listener breaks. It closes the listener.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil
	}
	s.listeners[l] = struct{}{}
	// Serve itself is waited for, so that no connection starts after Close.
	s.wg.Add(1)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
		s.wg.Done()
	}()
	for {
		nc, err := acceptRetrying(s.ctx, l)
		if s.ctx.Err() != nil {
			if err == nil {
				nc.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept ssh connections on %s: %w", l.Addr(), err)
		}
		s.handle(nc, s.keyed)
	}
}

// handle starts serving a connection within the bound.
func (s *Server) handle(nc net.Conn, config *ssh.ServerConfig) {
	s.mu.Lock()
	full := s.conns >= s.o.MaxConns
	if full || s.closing {
		s.mu.Unlock()
		if full { // counted before the client can know
			s.o.Tally.Drop(stats.DropSSHConnections, 1)
			s.log.Warn("too many ssh connections, one was refused", "limit", s.o.MaxConns)
		}
		nc.Close()
		return
	}
	// Here and not later: what is accepted faster than goroutines run must not fill
	// the places of those who are let in.
	oldest := s.handshakes.begin(nc, s.o.MaxHandshakes)
	if oldest == nil {
		s.conns++
	} // else it has the place of the oldest
	s.wg.Go(func() {
		if !s.serveConn(nc, config) {
			return
		}
		s.mu.Lock()
		s.conns--
		s.mu.Unlock()
	})
	s.mu.Unlock()
	if oldest != nil {
		s.o.Tally.Drop(stats.DropSSHHandshakes, 1)
		oldest.Close()
	}
}

// acceptRetrying waits out a shortage of descriptors, which would otherwise end
// a listener for good.
func acceptRetrying(ctx context.Context, l net.Listener) (net.Conn, error) {
	pause := retry.New(5*time.Millisecond, time.Second)
	for {
		nc, err := l.Accept()
		var t interface{ Temporary() bool }
		if err == nil || !errors.As(err, &t) || !t.Temporary() {
			return nc, err
		}
		if pause.Wait(ctx) != nil {
			return nil, err
		}
	}
}

// Close refuses new connections, ends the sessions without an exit status, hangs
// up their processes and waits for all of it. A process that ignores the hangup
// is killed when ctx ends; then the error says so.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.stop(errShutdown) // before the listeners, so that Serve knows why they end
	for l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()
	s.eachProcess(agentexec.HangUp)

	done := make(chan struct{})
	go func() { // ends with the last of what it waits for
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	killed := s.eachProcess(agentexec.Kill)
	select {
	case <-done:
	case <-time.After(time.Second):
		return fmt.Errorf("close ssh server: %d processes had to be killed and something did not end: %w", killed, ctx.Err())
	}
	return fmt.Errorf("close ssh server: %d processes had to be killed: %w", killed, ctx.Err())
}
