package agentssh

import (
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/stats"
)

// request handles one request of a session and returns whether it is granted.
// It must not block: the whole connection waits for it.
func (s *session) request(r *ssh.Request) bool {
	switch r.Type {
	case "env":
		return s.requestEnv(r.Payload)
	case "pty-req":
		p, ok := parse[ptyPayload](r.Payload)
		if !ok || s.started || s.pty != nil {
			return false
		}
		s.pty = &p
		s.setSize(p.Rows, p.Cols)
		return true
	case "window-change":
		p, ok := parse[windowPayload](r.Payload)
		if !ok || s.pty == nil {
			return false
		}
		s.setSize(p.Rows, p.Cols)
		return true
	case "x11-req":
		p, ok := parse[x11Payload](r.Payload)
		if !ok || s.started || s.x11 != nil {
			return false
		}
		s.x11 = &p
		return true
	case "auth-agent-req@openssh.com":
		if s.started {
			return false
		}
		s.agent = true
		return true
	case "signal":
		return s.requestSignal(r.Payload)
	case "shell":
		return s.accept(job{})
	case "exec":
		p, ok := parse[textPayload](r.Payload)
		return ok && s.accept(job{command: p.Text})
	case "subsystem":
		p, ok := parse[textPayload](r.Payload)
		return ok && p.Text == "sftp" && s.accept(job{subsystem: p.Text})
	case keepaliveName:
		return true
	}
	// A break has no meaning for a pseudo terminal; it and what is unknown are
	// refused.
	return false
}

func (s *session) requestEnv(payload []byte) bool {
	p, ok := parse[envPayload](payload)
	if !ok || s.started || p.Name == "" || strings.ContainsAny(p.Name, "=\x00") || strings.ContainsRune(p.Value, 0) {
		return false
	}
	s.envBytes += len(p.Name) + len(p.Value)
	if len(s.env) == maxEnv || s.envBytes > maxEnvBytes {
		s.c.srv.o.Tally.Drop(stats.DropSSHEnvironment, 1)
		return false
	}
	s.env = append(s.env, p.Name+"="+p.Value)
	return true
}

func (s *session) requestSignal(payload []byte) bool {
	p, ok := parse[textPayload](payload)
	if !ok {
		return false
	}
	select {
	case s.signals <- signalOf(p.Text):
		return true
	default:
		s.c.srv.o.Tally.Drop(stats.DropSignals, 1)
		return false
	}
}

// setSize keeps the latest size; whoever runs the terminal picks it up.
func (s *session) setSize(rows, cols uint32) {
	s.size.Store(uint32(clamp(rows))<<16 | uint32(clamp(cols)))
	select {
	case s.resized <- struct{}{}:
	default: // one is waiting already
	}
}

func (s *session) latestSize() (rows, cols uint16) {
	v := s.size.Load()
	return uint16(v >> 16), uint16(v)
}
