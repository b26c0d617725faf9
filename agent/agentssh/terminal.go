package agentssh

import (
	"context"
	"errors"
	"os"
	"os/exec"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

func start(cmd *exec.Cmd) error { return cmd.Start() }

// runTerminal runs a command or a login shell on a terminal. When the client
// goes away the terminal hangs up, and the process ends.
func (s *session) runTerminal(command string, extra []string) outcome {
	term, err := agentexec.OpenTerminal()
	if err != nil {
		return s.fail(stats.ErrStartCommand, err)
	}
	defer term.Close()
	if err := term.Configure(func(fd int) error { return applyModes(fd, []byte(s.pty.Modes)) }); err != nil {
		s.c.log.Warn("terminal modes could not be set", "err", err)
	}
	if err := term.Resize(s.latestSize()); err != nil {
		s.tally.Failed(stats.ErrResize)
		s.c.log.Warn("terminal could not be resized", "err", err)
	}
	if command == "" {
		s.greet()
	}
	extra = append(extra, "SSH_TTY="+term.Name)
	if s.pty.Term != "" {
		extra = append(extra, "TERM="+s.pty.Term)
	}
	cmd, err := s.c.srv.o.Commands.Command(context.Background(), agentexec.Request{Command: command, Env: s.env, Extra: extra})
	if err != nil {
		return s.fail(stats.ErrCreateCommand, err)
	}
	proc, err := s.c.srv.startProcess(cmd, term.Start)
	if err != nil {
		return s.fail(stats.ErrStartCommand, err)
	}
	s.tally.Started()

	s.c.wg.Go(func() {
		// The end of the client's input is no input: a terminal has none, and a
		// shell that should end is told to by what is typed.
		err := s.c.srv.copy(term.Master, s.ch, nil)
		if err != nil && !errors.Is(err, os.ErrClosed) && !isEndOfTerminal(err) {
			s.tally.Failed(stats.ErrInputIOCopy)
			s.c.log.Debug("input of a terminal", "err", err)
		}
	})
	out := &output{f: term.Master}
	copied := make(chan struct{})
	s.c.wg.Go(func() {
		defer close(copied)
		if err := s.c.srv.copy(s.ch, out, nil); err != nil && s.ctx.Err() == nil {
			s.tally.Failed(stats.ErrOutputIOCopy)
			s.c.log.Debug("output of a terminal", "err", err)
		}
	})
	result := s.follow(proc, copied, term.Resize, out)
	if err := term.Close(); err != nil {
		s.tally.Failed(stats.ErrClose)
		s.c.log.Warn("terminal could not be closed", "err", err)
	}
	s.c.srv.end(proc)
	<-copied
	return result
}
