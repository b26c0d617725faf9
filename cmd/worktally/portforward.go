package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/worktally/worktally/internal/retry"
	"github.com/worktally/worktally/internal/splice"
)

// portForwardCmd is "worktally port-forward".
type portForwardCmd struct {
	reach
	TCP []string `name:"tcp" short:"p" placeholder:"[[ADDRESS:]LOCAL:]REMOTE" help:"Port to forward, repeatable; listens on 127.0.0.1 unless an address is given."`
	UDP []string `name:"udp" placeholder:"[[ADDRESS:]LOCAL:]REMOTE" help:"UDP port to forward, likewise."`
}

// forward is one port.
type forward struct {
	local  string
	remote uint16
}

// parseForward reads [[address:]local:]remote.
func parseForward(text string) (f forward, err error) {
	host, local, remote := "127.0.0.1", "", text
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		local, remote = text[:i], text[i+1:]
		if j := strings.LastIndexByte(local, ':'); j >= 0 {
			host, local = strings.Trim(local[:j], "[]"), local[j+1:]
		}
	} else {
		local = remote
	}
	port, err := strconv.ParseUint(remote, 10, 16)
	if err != nil || port == 0 {
		return f, fmt.Errorf("%q: %q is no port", text, remote)
	}
	if n, err := strconv.ParseUint(local, 10, 16); err != nil || n > 65535 {
		return f, fmt.Errorf("%q: %q is no port", text, local)
	}
	return forward{local: net.JoinHostPort(host, local), remote: uint16(port)}, nil
}

// Run listens until the context ends.
func (c portForwardCmd) Run(p *program) error {
	streams, errStreams := parseForwards("--tcp", c.TCP)
	datagrams, errDatagrams := parseForwards("--udp", c.UDP)
	err := errors.Join(errStreams, errDatagrams)
	if len(streams)+len(datagrams) == 0 && err == nil {
		err = errors.New("no port to forward: give --tcp or --udp")
	}
	if err != nil {
		return usageError{err}
	}
	conn, err := c.dial(p.ctx, p)
	if err != nil {
		return err
	}
	defer conn.Close()
	g, ctx := errgroup.WithContext(p.ctx)
	for _, f := range streams {
		l, err := net.Listen("tcp", f.local)
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "forwarding %s to port %d of the workspace\n", l.Addr(), f.remote)
		g.Go(func() error {
			defer context.AfterFunc(ctx, func() { _ = l.Close() })()
			return serveForward(ctx, p, l, func() (net.Conn, error) { return conn.DialPort(ctx, f.remote) })
		})
	}
	for _, f := range datagrams {
		l, err := net.ListenPacket("udp", f.local)
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "forwarding %s to UDP port %d of the workspace\n", l.LocalAddr(), f.remote)
		g.Go(func() error {
			defer context.AfterFunc(ctx, func() { _ = l.Close() })()
			d := &datagramForward{local: l, dial: func() (net.Conn, error) { return conn.DialDatagrams(ctx, f.remote) }, flows: make(map[string]net.Conn)}
			err := d.serve()
			if ctx.Err() != nil {
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

func parseForwards(flag string, texts []string) (forwards []forward, err error) {
	var errs []error
	for _, text := range texts {
		f, err := parseForward(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", flag, err))
		}
		forwards = append(forwards, f)
	}
	return forwards, errors.Join(errs...)
}

// serveForward connects what l accepts with what dial returns until the context
// ends. A failure to accept, as when there are no descriptors left, passes.
func serveForward(ctx context.Context, p *program, l net.Listener, dial func() (net.Conn, error)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	delay := retry.New(10*time.Millisecond, time.Second)
	for {
		local, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			fmt.Fprintf(p.stderr, "worktally: %v\n", err)
			if errors.Is(err, net.ErrClosed) || delay.Wait(ctx) != nil {
				return nil
			}
			continue
		}
		delay.Reset()
		wg.Go(func() {
			defer local.Close()
			remote, err := dial()
			if err != nil {
				fmt.Fprintf(p.stderr, "worktally: %v\n", err)
				return
			}
			defer remote.Close()
			defer context.AfterFunc(ctx, func() { _ = local.Close(); _ = remote.Close() })()
			splice.Both(local, remote)
		})
	}
}
