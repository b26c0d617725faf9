package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// held is an SSH session that stays open until it is ended.
type held struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// hold opens a session and sees that it lives.
func (w *world) hold(options ...string) *held {
	w.t.Helper()
	h := &held{cmd: w.SSHCommand(w.t.Context(), w.agent.SSH.Addr(), append(options, "exec cat")...)}
	var err error
	h.in, err = h.cmd.StdinPipe()
	w.must(err)
	out, err := h.cmd.StdoutPipe()
	w.must(err)
	h.out = bufio.NewReader(out)
	h.cmd.WaitDelay = patience
	w.must(h.cmd.Start())
	h.echo(w)
	return h
}

// echo sees that the session lives.
func (h *held) echo(w *world) {
	w.t.Helper()
	force := time.AfterFunc(patience, func() { _ = h.cmd.Process.Kill() })
	defer force.Stop()
	_, err := io.WriteString(h.in, "ping\n")
	w.must(err)
	line, err := h.out.ReadString('\n')
	if err != nil || line != "ping\n" {
		w.t.Fatalf("the session answered %q, %v", line, err)
	}
}

// end sees that the session lives and ends it; it was one.
func (h *held) end(w *world) int {
	w.t.Helper()
	h.echo(w)
	w.must(h.in.Close())
	w.must(h.cmd.Wait())
	return 1
}

// load is a few people who run SSH commands all the time.
type load struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	done   int
	err    error
}

// startLoad starts a person for each seed.
func (w *world) startLoad(seeds ...uint64) *load {
	l := &load{}
	ctx, cancel := context.WithCancel(w.t.Context())
	l.cancel = cancel
	for i, seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		l.wg.Go(func() {
			for ctx.Err() == nil {
				err := w.oneCommand(rng)
				l.mu.Lock()
				l.done++
				l.err = errors.Join(l.err, err)
				l.mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	return l
}

// stop returns how many commands were run.
func (l *load) stop(w *world) int {
	w.t.Helper()
	l.cancel()
	l.wg.Wait()
	if l.err != nil || l.done == 0 {
		w.t.Fatalf("%d commands were run: %v", l.done, l.err)
	}
	return l.done
}

// oneCommand moves a known number of bytes, up or down.
func (w *world) oneCommand(rng *rand.Rand) error {
	n := rng.IntN(200_000)
	if rng.IntN(2) == 0 {
		return w.oneCommandOf(n)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	cmd := w.SSHCommand(ctx, w.agent.SSH.Addr(), "wc -c")
	cmd.Stdin = bytes.NewReader(make([]byte, n))
	out, err := cmd.Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != strconv.Itoa(n) {
		return fmt.Errorf("%d bytes up: %s arrived: %w", n, got, err)
	}
	return nil
}

// oneCommandOf moves n bytes from the agent.
func (w *world) oneCommandOf(n int) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	out, err := w.SSHCommand(ctx, w.agent.SSH.Addr(), fmt.Sprintf("head -c %d /dev/zero", n)).Output()
	if err == nil && len(out) != n {
		err = fmt.Errorf("%d bytes of %d arrived", len(out), n)
	}
	return err
}
