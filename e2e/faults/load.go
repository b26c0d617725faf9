package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/internal/retry"
)

const (
	// sessionLimit is how long a session of the load may take, even if a program
	// stands still meanwhile.
	sessionLimit = stopTime + patience
	// largest is the most that one session moves, in bytes.
	largest = 100_000
)

// load is people who run SSH commands in one workspace all the time.
type load struct {
	model  *model
	signer ssh.Signer
	addr   net.Addr
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	paused  bool
	stopped bool
	excused bool // sessions may fail: the agent dies
	running int
	done    int
	err     error
}

// startLoad starts n people.
func startLoad(ctx context.Context, m *model, signer ssh.Signer, n int, rng *rand.Rand) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{model: m, signer: signer, addr: m.ssh.Addr(), cancel: cancel}
	l.changed = sync.NewCond(&l.mu)
	for range n {
		own := rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64()))
		l.wg.Go(func() {
			for l.enter() {
				l.leave(l.session(ctx, own))
				if retry.Sleep(ctx, time.Duration(own.Int64N(int64(100*time.Millisecond)))) != nil {
					return
				}
			}
		})
	}
	return l
}

// enter waits while the load is paused; false ends it.
func (l *load) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.paused && !l.stopped {
		l.changed.Wait()
	}
	if !l.stopped {
		l.running++
	}
	return !l.stopped
}

func (l *load) leave(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	if err == nil {
		l.done++
	} else if !l.excused && l.err == nil {
		l.err = err
	}
	l.changed.Broadcast()
}

// pause lets nobody begin. With excused, those who are under way may fail.
func (l *load) pause(excused bool) {
	l.mu.Lock()
	l.paused, l.excused = true, excused
	l.mu.Unlock()
}

// idle waits until nobody is under way.
func (l *load) idle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.running > 0 {
		l.changed.Wait()
	}
}

func (l *load) resume() {
	l.mu.Lock()
	l.paused, l.excused = false, false
	l.mu.Unlock()
	l.changed.Broadcast()
}

// stop waits for the end of all sessions and says how many went well, and why one
// did not that should have.
func (l *load) stop() (done int, err error) {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.changed.Broadcast()
	l.idle()
	l.cancel()
	l.wg.Wait()
	return l.done, l.err
}

// session moves a known number of bytes up or down.
func (l *load) session(ctx context.Context, rng *rand.Rand) error {
	client, err := connectSSH(ctx, l.addr, l.signer, sessionLimit)
	if err != nil {
		return err
	}
	defer client.Close()
	n := rng.IntN(largest)
	if rng.IntN(2) == 0 {
		return l.run(client, fmt.Sprintf("head -c %d /dev/zero", n), nil, func(out []byte) bool { return len(out) == n })
	}
	return l.run(client, "wc -c", strings.NewReader(strings.Repeat("x", n)), func(out []byte) bool {
		return strings.TrimSpace(string(out)) == strconv.Itoa(n)
	})
}

func (l *load) run(client *ssh.Client, command string, in io.Reader, right func([]byte) bool) error {
	s, err := client.NewSession()
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	defer s.Close()
	s.Stdin = in
	opened := l.model.try()
	out, err := s.Output(command)
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if !right(out) {
		return fmt.Errorf("%s: wrong output", command)
	}
	opened()
	return nil
}

// connectSSH opens a connection that ends after a limit.
func connectSSH(ctx context.Context, addr net.Addr, signer ssh.Signer, limit time.Duration) (*ssh.Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, addr.Network(), addr.String())
	if err != nil {
		return nil, err
	}
	err = conn.SetDeadline(time.Now().Add(limit))
	c, channels, requests, errSSH := ssh.NewClientConn(conn, addr.String(), &ssh.ClientConfig{
		User: "user", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err := errors.Join(err, errSSH); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}
