package agentssh

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

// pipes are both ends of the three pipes of a process without a terminal.
type pipes struct {
	stdinR, stdinW                     *os.File
	stdoutR, stdoutW, stderrR, stderrW *os.File
}

func openPipes() (p pipes, err error) {
	for _, ends := range [][2]**os.File{{&p.stdinR, &p.stdinW}, {&p.stdoutR, &p.stdoutW}, {&p.stderrR, &p.stderrW}} {
		if *ends[0], *ends[1], err = os.Pipe(); err != nil {
			p.closeTheirs()
			p.closeOurs()
			return pipes{}, err
		}
	}
	return p, nil
}

// closeTheirs closes the ends that the process has; a nil file is no harm.
func (p *pipes) closeTheirs() {
	p.stdinR.Close()
	p.stdoutW.Close()
	p.stderrW.Close()
}

func (p *pipes) closeOurs() {
	p.stdinW.Close()
	p.stdoutR.Close()
	p.stderrR.Close()
}

// runPiped runs a command or a shell without a terminal. When the client goes
// away the process runs on without pipes.
func (s *session) runPiped(command string, extra []string) outcome {
	cmd, err := s.c.srv.o.Commands.Command(context.Background(), agentexec.Request{Command: command, Env: s.env, Extra: extra})
	if err != nil {
		return s.fail(stats.ErrCreateCommand, err)
	}
	p, err := openPipes()
	if err != nil {
		return s.fail(stats.ErrStdinPipe, err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.stdinR, p.stdoutW, p.stderrW
	agentexec.OwnSession(cmd)
	proc, err := s.c.srv.startProcess(cmd, start)
	p.closeTheirs()
	if err != nil {
		p.closeOurs()
		return s.fail(stats.ErrStartCommand, err)
	}
	s.tally.Started()

	s.c.srv.wg.Go(func() {
		// The input may outlive the session: what the client has sent before it
		// went away still reaches the process.
		s.copyInput(p.stdinW)
	})
	s.c.srv.wg.Go(func() {
		<-proc.done
		p.stdinW.Close() // ends a write that nobody reads
	})
	stdout, stderr := &output{f: p.stdoutR}, &output{f: p.stderrR}
	copied := make(chan struct{})
	s.c.wg.Go(func() {
		defer close(copied)
		var both sync.WaitGroup
		both.Go(func() { s.copyOutput(s.ch, stdout) })
		both.Go(func() { s.copyOutput(s.ch.Stderr(), stderr) })
		both.Wait()
	})
	out := s.follow(proc, copied, nil, stdout, stderr)
	p.stdoutR.Close()
	p.stderrR.Close()
	<-copied
	return out
}

// follow handles what happens while the process runs, and returns when all its
// output is with the client, or when the client does not want it any more.
func (s *session) follow(proc *process, copied <-chan struct{}, resize func(rows, cols uint16) error, outs ...*output) outcome {
	for {
		select {
		case sig := <-s.signals:
			if err := proc.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
				s.tally.Failed(stats.ErrSignal)
				s.c.log.Warn("signal could not be delivered", "signal", sig.String(), "err", err)
			}
		case <-s.resized:
			if resize == nil {
				continue
			}
			if err := resize(s.latestSize()); err != nil {
				s.tally.Failed(stats.ErrResize)
				s.c.log.Warn("terminal could not be resized", "err", err)
			}
		case <-s.ctx.Done():
			return cutShort(context.Cause(s.ctx))
		case <-proc.done:
			if s.ctx.Err() != nil { // the hangup, or the end of its input, ended it
				return cutShort(context.Cause(s.ctx))
			}
			for _, o := range outs {
				o.processExited()
			}
			select {
			case <-copied:
			case <-s.ctx.Done(): // the process has ended all the same
			}
			return ended(proc.err)
		}
	}
}

// copyInput copies what the client sends to the process and passes on its end.
func (s *session) copyInput(stdin *os.File) {
	defer stdin.Close()
	var see func([]byte) bool
	if s.tally.WantsStdin() {
		see = func(p []byte) bool {
			s.tally.ObserveStdin(p)
			return s.tally.WantsStdin()
		}
	}
	// A process that stopped reading, or ended, is its own affair.
	if err := s.c.srv.copy(stdin, s.ch, see); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, os.ErrClosed) {
		s.tally.Failed(stats.ErrStdinIOCopy)
		s.c.log.Debug("input of a session", "err", err)
	}
}

// copyOutput copies until the output ends. When the client does not take it any
// more the process is told by a broken pipe.
func (s *session) copyOutput(dst io.Writer, o *output) {
	err := s.c.srv.copy(dst, o, nil)
	o.f.Close()
	if err != nil && !errors.Is(err, io.EOF) && s.ctx.Err() == nil {
		s.tally.Failed(stats.ErrOutputIOCopy)
		s.c.log.Debug("output of a session", "err", err)
	}
}
