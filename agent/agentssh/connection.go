package agentssh

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/stats"
)

// connection is one client.
type connection struct {
	srv   *Server
	log   *slog.Logger
	sc    *ssh.ServerConn
	tally *stats.Conn
	// ctx ends with the connection; its cause says why.
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	// running are the sessions that have not closed their channel yet.
	running sync.WaitGroup
	// heard moves whenever the client asked or answered something.
	heard atomic.Uint64

	mu       sync.Mutex // guards the fields below
	draining bool
	sessions int
	forwards int
	// listeners are those the client asked for, by network and address.
	listeners map[string]net.Listener
}

// serveConn returns whether the connection has kept its place until now: a newer
// one has it if it had to go before its client was in.
func (s *Server) serveConn(nc net.Conn, config *ssh.ServerConfig) (kept bool) {
	defer nc.Close()
	unhook := context.AfterFunc(s.ctx, func() { nc.Close() })
	// A deadline that cannot be set belongs to a connection that is dead already.
	_ = nc.SetDeadline(time.Now().Add(s.o.HandshakeTimeout))
	sc, channels, requests, err := ssh.NewServerConn(nc, config)
	kept = s.handshakes.end(nc)
	unhook()
	if err != nil {
		if s.ctx.Err() == nil {
			s.o.Tally.SSHHandshakeFailed()
			s.log.Info("ssh handshake did not succeed", "remote", nc.RemoteAddr().String(), "err", shortened(err))
		}
		return kept
	}
	_ = nc.SetDeadline(time.Time{})

	c := &connection{srv: s, sc: sc, tally: s.o.Tally.OpenConn(), listeners: make(map[string]net.Listener)}
	c.log = s.log.With("remote", nc.RemoteAddr().String())
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	c.wg.Go(func() { c.serveGlobal(requests) })
	c.wg.Go(c.closeWhenDone)
	c.wg.Go(c.watchLife)
	for ch := range channels {
		c.dispatch(ch)
	}
	c.cancel(errGone)
	c.wg.Wait()
	return kept
}

// closeWhenDone closes what the connection holds when its context ends. At
// shutdown the sessions get a moment to close their channels first.
func (c *connection) closeWhenDone() {
	<-c.ctx.Done()
	c.mu.Lock()
	c.draining = true
	for _, l := range c.listeners {
		l.Close()
	}
	c.mu.Unlock()
	if errors.Is(context.Cause(c.ctx), errShutdown) {
		// A client that does not read must not hold up the shutdown.
		impatient := time.AfterFunc(time.Second, func() { c.sc.Close() })
		c.running.Wait()
		impatient.Stop()
	}
	c.sc.Close()
}

// dispatch must not block: the whole connection waits for it.
func (c *connection) dispatch(ch ssh.NewChannel) {
	var handle func(ssh.NewChannel)
	var held *int
	limit, dropped := c.srv.o.MaxForwards, stats.DropForwards
	switch ch.ChannelType() {
	case "session":
		handle, held = c.serveSession, &c.sessions
		limit, dropped = c.srv.o.MaxSessions, stats.DropSSHConnections
	case "direct-tcpip":
		handle, held = c.forwardTCP, &c.forwards
	case "direct-streamlocal@openssh.com":
		handle, held = c.forwardUnix, &c.forwards
	default:
		c.reject(ch, ssh.UnknownChannelType, "unknown channel type")
		return
	}
	if !c.take(held, limit, dropped) {
		c.reject(ch, ssh.ResourceShortage, "too many channels")
		return
	}
	c.wg.Go(func() {
		defer c.give(held)
		defer c.guard("channel " + ch.ChannelType())
		handle(ch)
	})
}

// take counts one more of something bounded; false if there are enough.
func (c *connection) take(n *int, limit int, d stats.Dropped) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *n >= limit {
		c.srv.o.Tally.Drop(d, 1)
		return false
	}
	*n++
	return true
}

func (c *connection) give(n *int) {
	c.mu.Lock()
	*n--
	c.mu.Unlock()
}

func (c *connection) reject(ch ssh.NewChannel, reason ssh.RejectionReason, text string) {
	if err := ch.Reject(reason, text); err != nil {
		c.log.Debug("channel could not be rejected", "err", err)
	}
}

// guard keeps a mistake of ours in one channel from ending the others.
func (c *connection) guard(what string) {
	if v := recover(); v != nil {
		c.log.Error("panic", "in", what, "value", v, "stack", string(debug.Stack()))
	}
}

// reply answers a request if an answer is wanted. A client that is gone does not
// miss it.
func reply(r *ssh.Request, ok bool, payload []byte) {
	if r.WantReply {
		_ = r.Reply(ok, payload)
	}
}

// ip returns the address of the client as it is reported.
func (c *connection) ip() string {
	host, _, err := net.SplitHostPort(c.sc.RemoteAddr().String())
	if err != nil {
		return ""
	}
	return host
}

// endReason translates the cause of an early end.
func endReason(cause error) stats.EndReason {
	switch {
	case errors.Is(cause, errShutdown):
		return stats.EndShutdown
	case errors.Is(cause, errTimedOut):
		return stats.EndTimedOut
	case errors.Is(cause, errEvicted):
		return stats.EndFailed
	}
	return stats.EndDisconnected
}
