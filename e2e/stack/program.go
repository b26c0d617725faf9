package stack

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Program is a process of a stack.
type Program struct {
	// Name is what its files are called after. Log and Out are those with what it
	// wrote to standard error and standard output, in all its runs.
	Name, Log, Out string
	cmd            *exec.Cmd
	done           chan struct{} // closed when it has ended
	err            error         // how, once done is closed
}

// Start runs a program, a name in the stack's Bin or an absolute path.
func (s *Stack) Start(name string, env []string, program string, args ...string) (*Program, error) {
	if !filepath.IsAbs(program) {
		program = filepath.Join(s.Bin, program)
	}
	p := &Program{Name: name, Log: s.Path(name + ".log"), Out: s.Path(name + ".out"), done: make(chan struct{})}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	out, err := os.OpenFile(p.Out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(program, args...)
	p.cmd.Env, p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = append(s.Environ(), env...), s.Dir, out, log
	// Ctrl-C must reach the caller only, who stops the programs in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // ends with the process, which Close ends
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	s.programs = append(s.programs, p)
	return p, nil
}

// Done is closed when the program has ended.
func (p *Program) Done() <-chan struct{} { return p.done }

// Exited says whether the program has ended.
func (p *Program) Exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// PID is the number of the process.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// ExitCode waits for the end and returns the exit code, -1 after a signal.
func (p *Program) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal. A program that has ended does not mind.
func (p *Program) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Kill ends the program as a power failure would, and waits until it is gone.
func (p *Program) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the program to end, waits, and says if it did not end well. One that
// takes longer than the limit is killed.
func (p *Program) Stop(limit time.Duration) error {
	p.Signal(syscall.SIGTERM)
	force := time.AfterFunc(limit, func() { p.Signal(syscall.SIGKILL) })
	defer force.Stop()
	if <-p.done; p.err != nil {
		return fmt.Errorf("%s: %w (see %s)", p.Name, p.err, p.Log)
	}
	return nil
}
