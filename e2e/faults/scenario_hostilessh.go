package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/e2e/stack"
)

const (
	// intruderLimit is when the agent must have sent away who speaks no SSH.
	intruderLimit = 20 * time.Second
	// flipLimit is how long a client waits for an agent that waits for it, because a
	// length was changed.
	flipLimit = 3 * time.Second
	// kernelHolds is the most that is on its way to a client that does not read.
	kernelHolds = 16 << 20
	// askedChannels are more than a connection may have, maxChannels.
	askedChannels, maxChannels = 4096, 1000
	// intruderMemory is what the agent may have taken for all of them, in bytes.
	intruderMemory = 128e6
)

// hostileSSH: clients of the agent's SSH break every rule, while people work. None
// of these notices, what counts is counted, and nothing stays behind.
func hostileSSH(ctx context.Context, w *world) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	if err := w.awaitReport(ctx); err != nil {
		return err
	}
	before, err := usageOf(ctx, ws.agent.Program, ws.agent.Page)
	if err != nil {
		return err
	}
	in := &intruders{ws: ws}
	ws.model.expectStrangers()
	for _, attack := range []func(context.Context) error{in.banners, in.flips, in.channels, in.neverRead} {
		if err := errors.Join(attack(ctx), w.awaitReport(ctx)); err != nil {
			return err
		}
	}
	w.r.Outages += int(in.conns.Load())
	if err := stack.Await(ctx, patience, func() error {
		now, err := usageOf(ctx, ws.agent.Program, ws.agent.Page)
		if err != nil {
			return err
		}
		if now.bytes > before.bytes+intruderMemory {
			return fmt.Errorf("the agent grew from %s to %s", before, now)
		}
		now.bytes = 0 // the runtime gives memory back later
		return grown("the agent", before, now)
	}); err != nil {
		return err
	}
	return errors.Join(in.settle(ctx), w.awaitReport(ctx))
}

// intruders connect to the agent past the proxy that counts for the model, because
// what of their bytes arrives before a connection is torn down is anybody's guess.
// What they sent and got themselves are its bounds.
type intruders struct {
	ws        *workspace
	sent, got atomic.Int64
	conns     atomic.Int64
}

// intruder is one of them.
type intruder struct {
	net.Conn
	of *intruders
	// flip is the byte of which a bit is changed when it is sent; -1 is none.
	flip   int
	deaf   atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func (i *intruders) dial(ctx context.Context, limit time.Duration, flip int) (*intruder, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", i.ws.agent.SSHAddress)
	if err != nil {
		return nil, err
	}
	i.conns.Add(1)
	return &intruder{Conn: conn, of: i, flip: flip, closed: make(chan struct{})}, conn.SetDeadline(time.Now().Add(limit))
}

// Write changes a bit and counts.
func (c *intruder) Write(p []byte) (int, error) {
	if c.flip >= 0 && c.flip < len(p) {
		p = append([]byte(nil), p...)
		p[c.flip] ^= 1 << (c.flip % 8)
	}
	c.flip -= len(p)
	n, err := c.Conn.Write(p)
	c.of.sent.Add(int64(n))
	return n, err
}

// Read counts, until it is deaf.
func (c *intruder) Read(p []byte) (int, error) {
	if c.deaf.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(p)
	c.of.got.Add(int64(n))
	return n, err
}

// Close may be called twice.
func (c *intruder) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// login has the connection speak SSH with the right key.
func (c *intruder) login() (*ssh.Client, error) {
	conn, channels, requests, err := ssh.NewClientConn(c, "agent", &ssh.ClientConfig{
		User: "user", Auth: []ssh.AuthMethod{ssh.PublicKeys(c.of.ws.load.signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return ssh.NewClient(conn, channels, requests), nil
}

// enter connects and logs in.
func (i *intruders) enter(ctx context.Context) (*intruder, *ssh.Client, error) {
	c, err := i.dial(ctx, patience, -1)
	if err != nil {
		return nil, nil, err
	}
	client, err := c.login()
	return c, client, err
}

// banners are what is no version of SSH, without end.
func (i *intruders) banners(ctx context.Context) error {
	for _, begin := range []string{"", "SSH-2.0-", "\r\n"} {
		c, err := i.dial(ctx, intruderLimit, -1)
		if err != nil {
			return err
		}
		_, _ = io.WriteString(c, begin+strings.Repeat("A", 100_000)) // it may be refused before all of it is sent
		_, err = io.Copy(io.Discard, c)
		_ = c.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("a banner of 100,000 bytes after %q is still listened to", begin)
		}
	}
	return nil
}

// flips are clients that send one bit wrong. Whoever is not refused gets the right
// answer.
func (i *intruders) flips(ctx context.Context) error {
	var all sync.WaitGroup
	errs := make([]error, 8)
	for n := range errs {
		rng := rand.New(rand.NewPCG(i.ws.w.rng.Uint64(), 0))
		all.Go(func() {
			for range 16 {
				errs[n] = errors.Join(errs[n], i.flip(ctx, rng.IntN(6000)))
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (i *intruders) flip(ctx context.Context, at int) error {
	c, err := i.dial(ctx, flipLimit, at)
	if err != nil {
		return err
	}
	defer c.Close()
	const text = "what is sent comes back\n"
	client, err := c.login()
	if err != nil {
		return nil // refused, as it should be
	}
	defer client.Close()
	s, err := client.NewSession()
	if err != nil {
		return nil
	}
	s.Stdin = strings.NewReader(text)
	opened := i.ws.model.try()
	out, err := s.Output("cat")
	if err != nil {
		return nil
	}
	opened()
	if string(out) != text {
		return fmt.Errorf("with byte %d flipped: %q", at, out)
	}
	return nil
}

// channels is a client that opens sessions and asks for nothing in them.
func (i *intruders) channels(ctx context.Context) error {
	_, client, err := i.enter(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	granted := 0
	for range askedChannels {
		_, requests, err := client.OpenChannel("session", nil)
		var refused *ssh.OpenChannelError
		switch {
		case err == nil:
			granted++
			go ssh.DiscardRequests(requests) // ends with the connection
		case !errors.As(err, &refused):
			return fmt.Errorf("after %d channels: %w", granted, err)
		}
	}
	if granted != maxChannels {
		return fmt.Errorf("%d of %d channels were granted", granted, askedChannels)
	}
	return nil
}

// neverRead are clients of programs that write without end.
func (i *intruders) neverRead(ctx context.Context) error {
	for range 8 {
		c, client, err := i.enter(ctx)
		if err != nil {
			return err
		}
		defer client.Close()
		s, err := client.NewSession()
		if err != nil {
			return err
		}
		out, err := s.StdoutPipe()
		if err != nil {
			return err
		}
		opened := i.ws.model.try()
		if err := s.Start("exec yes"); err != nil {
			return err
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			return err
		}
		opened()
		c.deaf.Store(true)
	}
	return pause(ctx, 3*time.Second)
}

// settle waits until the agent has counted all that intruders made it count, has a
// look whether that can be, and tells the model. People pause meanwhile.
func (i *intruders) settle(ctx context.Context) error {
	ws := i.ws
	ws.load.pause(false)
	ws.load.idle()
	if err := ws.w.hold(); err != nil {
		return err
	}
	var sure, maybe, got counts
	changed := time.Now()
	if err := stack.Await(ctx, patience, func() error {
		page, err := ws.agent.Metrics(ctx)
		if err != nil {
			return err
		}
		before := got
		got = ofAgent(page)
		if sure, maybe, err = ws.model.now(); err != nil {
			return err
		}
		if got != before {
			changed = time.Now()
		}
		// A connection that is torn down may count its last bytes a moment later.
		if n := page.Sum("agent_open_sessions"); n > 0 || time.Since(changed) < 2*time.Second {
			return fmt.Errorf("%v sessions are open, and it goes on", n)
		}
		seen := got
		seen[sessions], seen[received], seen[transmitted] = sure[sessions], sure[received], sure[transmitted]
		return differ("scripts", sure, seen)
	}); err != nil {
		return err
	}
	least, most := sure, maybe
	least[transmitted] += float64(i.got.Load())
	most[received] = sure[received] + float64(i.sent.Load())
	most[transmitted] = least[transmitted] + float64(i.conns.Load()*kernelHolds)
	ws.w.r.note("with intruders", least, got, most)
	if err := errors.Join(ws.model.strangersCounted(got), ws.w.release()); err != nil {
		return err
	}
	ws.load.resume()
	return nil
}
