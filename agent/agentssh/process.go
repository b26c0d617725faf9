package agentssh

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

// process is a started command. The server waits for it, whatever becomes of the
// session.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // of Wait; may be read when done is closed
}

// startProcess starts the command by calling start and waits for it in the
// background.
func (s *Server) startProcess(cmd *exec.Cmd, start func(*exec.Cmd) error) (*process, error) {
	if err := start(cmd); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	s.mu.Lock()
	s.processes[p] = struct{}{}
	closing := s.closing
	s.mu.Unlock()
	s.wg.Go(func() {
		p.err = cmd.Wait()
		s.mu.Lock()
		delete(s.processes, p)
		s.mu.Unlock()
		close(p.done)
	})
	if closing { // Close has not seen this one
		s.warnUnlessEnded("hang up a process", agentexec.HangUp(cmd.Process))
	}
	return p, nil
}

// eachProcess calls f for the process groups of all running commands and returns
// how many there were.
func (s *Server) eachProcess(f func(*os.Process) error) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.processes {
		s.warnUnlessEnded("signal a process group", f(p.cmd.Process))
	}
	return len(s.processes)
}

// warnUnlessEnded logs an error that is not the natural one: that the process
// has ended in the meantime.
func (s *Server) warnUnlessEnded(what string, err error) {
	if err != nil && !errors.Is(err, os.ErrProcessDone) && !isNoSuchProcess(err) {
		s.log.Warn(what, "err", err)
	}
}

// hangUpGrace is how long a process may take to end after a hangup when its
// terminal has gone.
const hangUpGrace = time.Second

// end ends a process whose terminal has gone: shells save their history on a
// hangup, and are killed if they take too long. It returns when the process has
// ended.
func (s *Server) end(p *process) {
	select {
	case <-p.done: // its number may be somebody else's by now
		return
	default:
	}
	s.warnUnlessEnded("hang up a process", agentexec.HangUp(p.cmd.Process))
	t := time.NewTimer(hangUpGrace)
	defer t.Stop()
	select {
	case <-p.done:
		return
	case <-t.C:
	}
	s.warnUnlessEnded("kill a process", agentexec.Kill(p.cmd.Process))
	<-p.done
}

// outcome is how a session ended.
type outcome struct {
	// code is the exit status; it is sent only if sent is true.
	code   int
	sent   bool
	reason string
	end    stats.EndReason
}

// exitFailure is the exit status of sessions that failed on our side.
const exitFailure = 229

func failure(err error) outcome {
	return outcome{code: exitFailure, sent: true, reason: err.Error(), end: stats.EndFailed}
}

func refusal(code int, reason string) outcome {
	return outcome{code: code, sent: true, reason: reason, end: stats.EndFailed}
}

// ended translates the error of exec.Cmd.Wait (contract ssh-and-pty.md 3.1). A
// process killed by a signal has no exit status of its own.
func ended(err error) outcome {
	o := outcome{sent: true, end: stats.EndExited}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		o.code = exit.ExitCode()
		o.reason = fmt.Sprintf("process exited with error status: %d", o.code)
		if o.code < 0 {
			o.code = 255
		}
	default:
		return failure(err)
	}
	return o
}

// cutShort is the outcome of a session that ended before its process. At
// shutdown the process was hung up, and that is what is reported.
func cutShort(cause error) outcome {
	o := outcome{code: 1, end: endReason(cause)}
	if o.end == stats.EndShutdown {
		o.code, o.reason = 255, "process exited with error status: -1"
	}
	return o
}
