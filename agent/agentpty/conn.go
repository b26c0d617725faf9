package agentpty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/agent/stats"
)

// outcome is how a connection ended, for the tally and for the report.
type outcome struct {
	end  stats.EndReason
	code int
	text string
}

func inOrder(end stats.EndReason) outcome { return outcome{end: end} }

func failed(err error) outcome { return outcome{stats.EndFailed, 1, err.Error()} }

// serveConn serves one connection from accept to close, counted and reported.
func (s *Server) serveConn(c net.Conn) {
	defer c.Close()
	session := s.o.Tally.OpenTerminal()
	id, ip := uuid.New(), hostOf(c.RemoteAddr())
	if s.o.Connections != nil {
		s.o.Connections.Connected(id, session.Kind(), ip, time.Now())
	}
	how := s.guarded(c)
	session.Close(how.end)
	if s.o.Connections != nil {
		s.o.Connections.Disconnected(id, how.code, how.text)
	}
	s.log.Info("terminal connection ended", "connection_id", id, "remote", ip, "reason", string(how.end), "err", how.text)
}

// guarded is the edge at which a mistake of ours ends this connection only.
func (s *Server) guarded(c net.Conn) (how outcome) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("terminal connection panicked", "panic", p, "stack", string(debug.Stack()))
			how = failed(fmt.Errorf("internal error: %v", p))
		}
	}()
	defer context.AfterFunc(s.life, func() { c.Close() })()
	h, err := s.greet(c)
	switch {
	case s.life.Err() != nil:
		return outcome{stats.EndShutdown, 1, errClosing.Error()}
	case err != nil:
		// Closed silently and reported as in order (contract section 6.1).
		s.log.Info("terminal connection without use", "err", err)
		if errors.Is(err, errSilent) {
			return inOrder(stats.EndTimedOut)
		}
		return inOrder(stats.EndFailed)
	}
	return s.attach(c, h)
}

var errSilent = errors.New("client said nothing in time")

func (s *Server) greet(c net.Conn) (hello, error) {
	if err := c.SetReadDeadline(time.Now().Add(s.o.HandshakeTimeout)); err != nil {
		return hello{}, err
	}
	h, err := readHello(c)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return h, fmt.Errorf("%w: %w", errSilent, err)
	}
	if err != nil {
		return h, err
	}
	return h, c.SetReadDeadline(time.Time{})
}

// attach connects c with the terminal it names.
func (s *Server) attach(c net.Conn, h hello) outcome {
	t, err := s.terminal(h)
	if err == nil {
		err = t.enter()
		// A terminal that has just ended makes room for another one, once.
		if errors.Is(err, errNotThere) {
			s.forget(t)
			if t, err = s.terminal(h); err == nil {
				err = t.enter()
			}
		}
	}
	if err != nil {
		return s.refuse(c, h, err)
	}
	defer t.leave()
	p, err := t.back.attach(s.life, h)
	if err != nil {
		return s.refuse(c, h, err)
	}
	t.saw()
	defer t.back.detach(p)
	s.log.Info("terminal attached", "terminal_id", h.ID)
	return s.carry(c, p)
}

// refuse tells the client, which has nothing but terminal bytes to learn it by.
func (s *Server) refuse(c net.Conn, h hello, err error) outcome {
	if s.life.Err() != nil {
		return outcome{stats.EndShutdown, 1, errClosing.Error()}
	}
	s.log.Warn("terminal not attached", "terminal_id", h.ID, "err", err)
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = fmt.Fprintf(c, "%s\r\n", err) // the connection is given up in any case
	return failed(fmt.Errorf("attach terminal: %w", err))
}

// carry moves bytes both ways until one side ends.
func (s *Server) carry(c net.Conn, p *process) outcome {
	a := newAttachment(c, s.o)
	p.attach(a)
	defer p.detach(a)
	written := make(chan error, 1)
	go func() {
		err := a.run()
		c.Close() // ends the reader below
		written <- err
	}()
	readErr := receive(c, p)
	a.abort(readErr)
	writeErr := <-written
	switch {
	case s.life.Err() != nil:
		// A stock agent reports these as in order (contract corrections).
		return inOrder(stats.EndShutdown)
	case writeErr == nil:
		return inOrder(stats.EndExited) // the process ended and all was written
	case errors.Is(writeErr, errTooSlow):
		s.o.Tally.Drop(stats.DropTerminals, 1)
		return outcome{stats.EndDisconnected, 1, errTooSlow.Error()}
	case !errors.Is(writeErr, readErr):
		s.o.Tally.TerminalFailed(p.fails.write)
		return inOrder(stats.EndDisconnected)
	case errors.Is(readErr, io.EOF):
		return inOrder(stats.EndExited)
	}
	var ne net.Error
	if errors.As(readErr, &ne) {
		return inOrder(stats.EndDisconnected)
	}
	return failed(fmt.Errorf("read message: %w", readErr))
}

// receive handles messages until the client ends; the error is never nil.
func receive(c net.Conn, p *process) error {
	in := newMessages(c)
	for {
		m, err := in.next()
		if err != nil {
			return err
		}
		p.handle(m)
	}
}

// hostOf returns the address without the port, "" if there is none.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return ""
	}
	return host
}
