package agentpty

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

// screenConfig makes screen invisible: no messages, no own scroll-back instead
// of the client's, and Ctrl-S in place of Ctrl-A for its commands.
const screenConfig = `startup_message off
msgminwait 0
msgwait 0
termcapinfo xterm* ti@:te@
altscreen on
escape ^Ss
`

const (
	screenPoll = 250 * time.Millisecond
	screenWait = 30 * time.Second
	screenQuit = 5 * time.Second
	screenGone = 20 * time.Millisecond
)

// screen keeps a terminal in a daemon of GNU screen; each connection has a
// screen client of its own.
type screen struct {
	s            *Server
	path, config string
	name         string
	// env and dir are those of the first client; screen's commands need them to
	// find the daemon. spawn guards them and makes that two clients do not start
	// two daemons.
	spawn sync.Mutex
	env   []string
	dir   string
}

// newBackend chooses what keeps the terminal.
func (s *Server) newBackend(h hello) (backend, error) {
	switch h.BackendType {
	case "buffered":
		return newBuffered(s), nil
	case "screen":
		return newScreen(s)
	case "":
		if runtime.GOOS != "linux" {
			return newBuffered(s), nil
		}
		b, err := newScreen(s)
		if err != nil {
			s.log.Debug("screen cannot be used, terminal is buffered", "err", err)
			return newBuffered(s), nil
		}
		return b, nil
	}
	return nil, fmt.Errorf("unknown terminal backend %.40q, want buffered or screen", h.BackendType)
}

func newScreen(s *Server) (*screen, error) {
	path := s.o.ScreenPath
	if path == "none" {
		return nil, errors.New("screen is switched off")
	}
	if path == "" {
		found, err := exec.LookPath("screen")
		if err != nil {
			return nil, fmt.Errorf("find screen: %w", err)
		}
		path = found
	}
	dir := filepath.Join(s.o.TempDir, "coder-screen")
	if err := privateDir(dir); err != nil {
		return nil, fmt.Errorf("make screen directory: %w", err)
	}
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("name screen session: %w", err)
	}
	name, config := hex.EncodeToString(random[:]), filepath.Join(dir, "config")
	// Another terminal may be reading the file at this moment.
	fresh := config + "." + name
	err := os.WriteFile(fresh, []byte(screenConfig), 0o600)
	if err == nil {
		err = os.Rename(fresh, config)
	}
	if err != nil {
		return nil, fmt.Errorf("write screen settings: %w", err)
	}
	return &screen{s: s, path: path, config: config, name: name}, nil
}

// attach starts a client, and the daemon with it if there is none.
func (b *screen) attach(ctx context.Context, h hello) (*process, error) {
	b.spawn.Lock()
	defer b.spawn.Unlock()
	p, err := b.s.startProcess(
		failures{stats.TerminalScreenSpawn, stats.TerminalScreenOutputReader, stats.TerminalScreenWrite}, h,
		func(ctx context.Context) (*exec.Cmd, error) {
			inner, err := b.s.o.Commands.Command(ctx, agentexec.Request{Command: h.Command, Extra: []string{term}})
			if err != nil {
				return nil, err
			}
			args := append([]string{"-S", b.name, "-UxRRqc", b.config, inner.Path}, inner.Args[1:]...)
			cmd := exec.CommandContext(ctx, b.path, args...)
			cmd.Env, cmd.Dir = inner.Env, inner.Dir
			b.env, b.dir = inner.Env, inner.Dir
			return cmd, nil
		}, true)
	if err != nil {
		return nil, err
	}
	if err := b.await(ctx, p); err != nil {
		p.stop()
		b.s.o.Tally.TerminalFailed(stats.TerminalScreenWait)
		return nil, err
	}
	return p, nil
}

// await waits until the daemon answers.
func (b *screen) await(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, screenWait)
	defer cancel()
	for {
		if b.command(ctx, "version") == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("screen ended at once: %.200q", p.replay.replay())
		case <-ctx.Done():
			return fmt.Errorf("wait for screen: %w", ctx.Err())
		case <-time.After(screenPoll):
		}
	}
}

// command sends a command to the daemon.
func (b *screen) command(ctx context.Context, name string) error {
	cmd := exec.CommandContext(ctx, b.path, "-x", b.name, "-c", b.config, "-X", name)
	cmd.Env, cmd.Dir = b.env, b.dir
	cmd.WaitDelay = time.Second
	return cmd.Run()
}

// detach ends the client; the daemon stays.
func (b *screen) detach(p *process) { p.stop() }

func (b *screen) gone() <-chan struct{} { return nil }

// close ends the daemon. It runs when the Server's life may be over already.
func (b *screen) close() {
	b.spawn.Lock()
	defer b.spawn.Unlock()
	if b.env == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), screenQuit)
	defer cancel()
	if err := b.command(ctx, "quit"); err != nil {
		// Most likely the shell in it has ended, and the daemon with it.
		b.s.log.Debug("quit screen", "err", err)
		return
	}
	// The command has been handed over; the daemon may take a moment to obey.
	for b.command(ctx, "version") == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(screenGone):
		}
	}
}
