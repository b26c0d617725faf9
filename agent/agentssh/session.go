package agentssh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/stats"
)

const (
	maxSignals  = 128
	maxEnv      = 1000
	maxEnvBytes = 256 << 10
)

// session is one channel of type session. Its request loop owns the fields of
// the first group until it starts the job, and the running job from then on.
type session struct {
	env      []string
	envBytes int
	pty      *ptyPayload
	x11      *x11Payload
	agent    bool
	started  bool
	// next is the job to start once the request for it is answered: the client
	// must not see the end of a job before it knows that it began.
	next *job

	c      *connection
	ch     ssh.Channel
	tally  *stats.Session
	ctx    context.Context // ends with the channel; its cause says why
	cancel context.CancelCauseFunc
	// signals are buffered until the process runs.
	signals chan os.Signal
	// size is the latest size, as rows<<16 | cols; resized says that it changed.
	size    atomic.Uint32
	resized chan struct{}
	// cleanups run when the session ends, last one first.
	cleanups []func()
}

// job is what a session was asked to run: a command, a subsystem, or a login
// shell if both are empty.
type job struct{ command, subsystem string }

func (c *connection) serveSession(nc ssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		c.log.Debug("session could not be accepted", "err", err)
		return
	}
	s := &session{
		c: c, ch: ch,
		signals: make(chan os.Signal, maxSignals),
		resized: make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancelCause(c.ctx)
	defer s.cancel(errGone)
	if c.srv.o.MaxTimeout >= 3*time.Second {
		c.wg.Go(func() {
			c.keepalive(s.ctx, func() error {
				_, err := ch.SendRequest(keepaliveName, true, nil)
				return err
			}, s.cancel)
		})
	}
	for r := range requests {
		c.heard.Add(1)
		reply(r, s.request(r), nil)
		if s.next != nil {
			s.start(*s.next)
			s.next = nil
		}
	}
}

// accept grants the request for a job, once.
func (s *session) accept(j job) bool {
	if s.started {
		return false
	}
	s.started, s.next = true, &j
	return true
}

// start runs the job beside the request loop.
func (s *session) start(j job) {
	s.c.mu.Lock()
	draining := s.c.draining
	if !draining {
		s.c.running.Add(1)
	}
	s.c.mu.Unlock()
	s.c.wg.Go(func() {
		if !draining {
			defer s.c.running.Done()
		}
		s.run(j)
	})
}

// run counts and reports the session around its execution.
func (s *session) run(j job) {
	srv := s.c.srv
	// Whatever happens below, the client must not wait for a channel without an
	// owner.
	defer s.ch.Close()
	facts := stats.SessionFacts{Command: j.command, Subsystem: j.subsystem, PTY: s.pty != nil}
	facts.Marker, s.env = takeMarker(s.env)

	event := ConnEvent{ID: uuid.New(), IP: s.c.ip(), Time: time.Now()}
	if errors.Is(context.Cause(s.ctx), errShutdown) {
		if event.Kind = stats.KindOf(facts); !event.Kind.TrackedByChannel() {
			srv.o.Connections.Connected(event)
			srv.o.Connections.Disconnected(event.ID, 1, "unable to accept new session, server is closing")
		}
		return
	}
	s.tally = s.c.tally.OpenSession(facts)
	event.Kind = s.tally.Kind()
	// JetBrains' sessions are followed by the channel that they share.
	reported := !event.Kind.TrackedByChannel()
	if reported {
		srv.o.Connections.Connected(event)
	}
	out := s.guarded(j)
	if out.sent {
		err := s.sendStatus(out.code)
		if err != nil && (j.subsystem != "" || out.end == stats.EndExited) {
			// The end of its input is all that SFTP and a process see of a lost client,
			// and they may have ended before anybody has told this session.
			out = cutShort(cmp.Or(context.Cause(s.ctx), errGone))
		}
	}
	s.tally.Close(out.end)
	if reported {
		srv.o.Connections.Disconnected(event.ID, out.code, out.reason)
	}
}

func (s *session) sendStatus(code int) error {
	_, err := s.ch.SendRequest("exit-status", false, ssh.Marshal(exitPayload{uint32(code)}))
	return err
}

// guarded executes the job and cleans up; a mistake of ours ends this session
// and no other.
func (s *session) guarded(j job) (out outcome) {
	defer func() {
		if v := recover(); v != nil {
			s.c.log.Error("panic in session", "value", v, "stack", string(debug.Stack()))
			out = failure(fmt.Errorf("panic in session: %v", v))
		}
	}()
	defer func() {
		for i := len(s.cleanups) - 1; i >= 0; i-- {
			s.cleanups[i]()
		}
	}()
	return s.execute(j)
}

func (s *session) execute(j job) outcome {
	if s.c.srv.o.BlockFileTransfer && transfersFiles(j) {
		if j.subsystem == "" {
			fmt.Fprint(s.ch, "\x02File transfer has been disabled.\n")
		}
		return refusal(65, "file transfer blocked")
	}
	if j.subsystem != "" {
		return s.runSFTP()
	}
	var extra []string
	if s.x11 != nil {
		display, err := s.forwardX11()
		if err != nil {
			s.c.log.Warn("x11 forwarding", "err", err)
			return refusal(1, "x11 handler failed")
		}
		s.env = append(s.env, "DISPLAY="+display)
	}
	if s.agent {
		socket, err := s.forwardAgent()
		if err != nil {
			return s.fail(stats.ErrListener, err)
		}
		extra = append(extra, "SSH_AUTH_SOCK="+socket)
	}
	if s.pty != nil {
		return s.runTerminal(j.command, extra)
	}
	return s.runPiped(j.command, extra)
}

// fail ends the session because of a fault on our side and tells the user which.
func (s *session) fail(kind stats.SessionError, err error) outcome {
	s.tally.Failed(kind)
	s.c.log.Warn("ssh session failed", "error_type", string(kind), "err", err)
	end := "\n"
	if s.pty != nil {
		end = "\r\n"
	}
	fmt.Fprintf(s.ch.Stderr(), "agent: %v%s", err, end)
	return failure(err)
}

// takeMarker takes what is meant for the server out of the variables: the
// session type, whose last value wins, and the container ones, which do nothing
// here.
func takeMarker(env []string) (marker string, rest []string) {
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		switch name {
		case "CODER_SSH_SESSION_TYPE":
			marker = value
		case "CODER_CONTAINER", "CODER_CONTAINER_USER":
		default:
			rest = append(rest, kv)
		}
	}
	return marker, rest
}
