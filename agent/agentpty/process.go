package agentpty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

// lastOutput is how long output is still awaited after a process has ended,
// should a child of it keep the terminal open.
const lastOutput = time.Second

// process is a command on a terminal. Everybody attached sees its output and may
// type.
type process struct {
	s   *Server
	cmd *exec.Cmd
	// terminal is ours to close.
	terminal *agentexec.Terminal
	kill     context.CancelFunc
	fails    failures
	// done is closed when the process has ended and its attachments are finished.
	done chan struct{}

	// input keeps what one client types in one piece whole.
	input sync.Mutex

	// mu guards the fields below.
	mu       sync.Mutex
	replay   ring
	attached map[*attachment]struct{}
	ended    bool
}

// failures are the error types of a backend.
type failures struct{ create, read, write stats.TerminalError }

// build makes the command of a process and start puts it on a terminal; the
// process ends with the Server's life at the latest.
func (s *Server) startProcess(fails failures, h hello, build func(context.Context) (*exec.Cmd, error), nameTTY bool) (*process, error) {
	ctx, cancel := context.WithCancel(s.life)
	cmd, err := build(ctx)
	if err != nil {
		cancel()
		s.o.Tally.TerminalFailed(stats.TerminalCreateCommand)
		return nil, err
	}
	cmd.Cancel = func() error { return agentexec.HangUp(cmd.Process) }
	cmd.WaitDelay = killGrace
	t, err := startOnTerminal(cmd, h, nameTTY)
	if err != nil {
		cancel()
		s.o.Tally.TerminalFailed(fails.create)
		return nil, err
	}
	p := &process{
		s: s, cmd: cmd, terminal: t, kill: cancel, fails: fails,
		done: make(chan struct{}), attached: make(map[*attachment]struct{}),
	}
	go p.run() // awaited through done
	return p, nil
}

// startOnTerminal starts the command on a new terminal.
func startOnTerminal(cmd *exec.Cmd, h hello, nameTTY bool) (*agentexec.Terminal, error) {
	t, err := agentexec.OpenTerminal()
	if err != nil {
		return nil, err
	}
	if nameTTY {
		cmd.Env = append(cmd.Env, "SSH_TTY="+t.Name)
	}
	if err := errors.Join(resize(t, h.Height, h.Width), t.Start(cmd)); err != nil {
		_ = t.Close()
		return nil, fmt.Errorf("start on a terminal: %w", err)
	}
	return t, nil
}

// resize sets the size of a terminal; a zero leaves it as it is.
func resize(t *agentexec.Terminal, height, width uint16) error {
	if height == 0 || width == 0 {
		return nil
	}
	return t.Resize(height, width)
}

// run carries the output until the process has ended.
func (p *process) run() {
	defer close(p.done)
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.read()
	}()
	_ = p.cmd.Wait() // how a shell ends is nobody's business
	p.kill()
	select {
	case <-read:
	case <-time.After(lastOutput):
	}
	p.terminal.Close()
	<-read
	p.mu.Lock()
	p.ended = true
	attached := p.attached
	p.attached = nil
	p.mu.Unlock()
	for a := range attached {
		a.finish()
	}
}

// stop ends the process and waits for it.
func (p *process) stop() {
	p.kill()
	<-p.done
}

func (p *process) read() {
	buf := make([]byte, 4096) // what Linux returns at most
	for {
		n, err := p.terminal.Master.Read(buf)
		if n > 0 {
			p.broadcast(buf[:n])
		}
		if err != nil {
			if !errors.Is(err, syscall.EIO) && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				p.s.o.Tally.TerminalFailed(p.fails.read)
				p.s.log.Warn("read terminal", "err", err)
			}
			return
		}
	}
}

func (p *process) broadcast(chunk []byte) {
	p.mu.Lock()
	p.replay.write(chunk)
	attached := make([]*attachment, 0, len(p.attached))
	for a := range p.attached {
		attached = append(attached, a)
	}
	p.mu.Unlock()
	// A client that is alone holds up nobody but itself.
	wait := p.s.o.WriteTimeout
	if len(attached) > 1 {
		wait = p.s.o.Patience
	}
	for _, a := range attached {
		if !a.enqueue(chunk, wait) {
			p.detach(a)
		}
	}
}

// attach lets a see the remembered output and everything after it.
func (p *process) attach(a *attachment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// The queue of a new attachment takes the replay without waiting.
	a.enqueue(p.replay.replay(), 0)
	if p.ended {
		a.finish()
		return
	}
	p.attached[a] = struct{}{}
}

func (p *process) detach(a *attachment) {
	p.mu.Lock()
	delete(p.attached, a)
	p.mu.Unlock()
}

// handle does what a message asks for. Errors concern this message only: a
// terminal that takes no input still shows output.
func (p *process) handle(m message) {
	p.input.Lock()
	defer p.input.Unlock()
	if m.Data != "" {
		_ = p.terminal.Master.SetWriteDeadline(time.Now().Add(p.s.o.WriteTimeout)) // an error would show in the write
		if _, err := p.terminal.Master.WriteString(m.Data); err != nil && !errors.Is(err, os.ErrClosed) {
			p.s.o.Tally.TerminalFailed(stats.TerminalInputWriter)
			p.s.log.Warn("write to terminal", "err", err)
		}
	}
	if err := resize(p.terminal, m.Height, m.Width); err != nil && !errors.Is(err, os.ErrClosed) {
		p.s.o.Tally.TerminalFailed(stats.TerminalResize)
		p.s.log.Warn("resize terminal", "err", err)
	}
}
