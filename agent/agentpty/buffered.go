package agentpty

import (
	"context"
	"os/exec"
	"sync"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

// term is what terminals are told they are.
const term = "TERM=xterm-256color"

// buffered keeps one process for all connections and replays its output.
type buffered struct {
	s *Server
	// over is closed when the process has ended.
	over chan struct{}

	// mu guards the fields below and makes that the process is started once.
	mu     sync.Mutex
	proc   *process
	closed bool
	watch  sync.WaitGroup
}

func newBuffered(s *Server) *buffered { return &buffered{s: s, over: make(chan struct{})} }

func (b *buffered) attach(_ context.Context, h hello) (*process, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errNotThere
	}
	if b.proc != nil {
		b.proc.handle(message{Height: h.Height, Width: h.Width})
		return b.proc, nil
	}
	p, err := b.s.startProcess(
		failures{stats.TerminalCreateCommand, stats.TerminalOutputReader, stats.TerminalWrite}, h,
		func(ctx context.Context) (*exec.Cmd, error) {
			return b.s.o.Commands.Command(ctx, agentexec.Request{Command: h.Command, Extra: []string{term}})
		}, false)
	if err != nil {
		// Whoever names the same ID next starts afresh.
		b.closed = true
		close(b.over)
		return nil, err
	}
	b.proc = p
	b.watch.Go(func() {
		<-p.done
		close(b.over)
	})
	return p, nil
}

func (b *buffered) detach(*process) {}

func (b *buffered) gone() <-chan struct{} { return b.over }

func (b *buffered) close() {
	b.mu.Lock()
	b.closed = true
	p := b.proc
	b.mu.Unlock()
	if p != nil {
		p.stop()
	}
	b.watch.Wait()
}
