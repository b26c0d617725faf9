package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/worktally/worktally/e2e/stack"
)

// stopTime is how long a process stands still.
const stopTime = 60 * time.Second

// stoppedAgent: the agent stands still, and then goes on as if nothing had been, for
// those who are in too. Who is not in yet would not get in: that has a limit.
func stoppedAgent(ctx context.Context, w *world) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	if err := errors.Join(pause(ctx, 3*time.Second), w.awaitReport(ctx)); err != nil {
		return err
	}
	ws.load.pause(false)
	ws.load.idle()
	err = ws.whileTheyTalk(ctx, 10, 3, func() error {
		return errors.Join(pause(ctx, 5*time.Second), w.stand(ctx, ws.agent.Program), w.awaitReport(ctx), pause(ctx, 3*time.Second))
	})
	ws.load.resume()
	return errors.Join(err, w.awaitReport(ctx))
}

// stoppedServer: the same for the server.
func stoppedServer(ctx context.Context, w *world) error {
	if _, err := w.addWorkspace(ctx, "ws"); err != nil {
		return err
	}
	return errors.Join(pause(ctx, 3*time.Second), w.stand(ctx, w.server.Program), w.awaitReport(ctx), pause(ctx, 3*time.Second))
}

// stand lets a process stand still for a while.
func (w *world) stand(ctx context.Context, p *stack.Program) error {
	w.r.Outages++
	p.Signal(syscall.SIGSTOP)
	defer p.Signal(syscall.SIGCONT)
	return pause(ctx, stopTime)
}

// noDescriptors: server and agent have no file descriptors left for a while,
// because of connections that say nothing.
func noDescriptors(ctx context.Context, w *world) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	if err := w.awaitReport(ctx); err != nil {
		return err
	}
	for _, victim := range []struct {
		*stack.Program
		address string
	}{{w.server.Program, w.server.Address}, {w.server.Program, w.server.Page}, {ws.agent.Program, ws.agent.SSH.Addr().String()}} {
		ws.load.pause(false)
		ws.load.idle()
		// A script run that cannot start counts as failed, and notes nothing: one that
		// waits all the time lets no other begin.
		if err := errors.Join(w.hold(), pause(ctx, 2*time.Second)); err != nil {
			return err
		}
		w.r.Outages++
		if err := exhaust(ctx, victim.PID(), victim.address); err != nil {
			return fmt.Errorf("%s at %s: %w", victim.Name, victim.address, err)
		}
		ws.load.resume()
		if err := errors.Join(w.release(), w.awaitReport(ctx), pause(ctx, 2*time.Second)); err != nil {
			return fmt.Errorf("after %s at %s: %w", victim.Name, victim.address, err)
		}
	}
	return nil
}

// exhaust takes a process its last file descriptors for some seconds.
func exhaust(ctx context.Context, pid int, address string) error {
	open, err := descriptors(pid)
	if err != nil {
		return err
	}
	var before unix.Rlimit
	few := unix.Rlimit{Cur: uint64(open + 5), Max: 20_000}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &few, &before); err != nil {
		return fmt.Errorf("prlimit: %w", err)
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range 100 {
		c, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			break // the queue of the listener is full
		}
		conns = append(conns, c)
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	if now, err := descriptors(pid); err != nil || now < open+4 {
		return fmt.Errorf("the process has %d of %d descriptors open: %w", now, few.Cur, err)
	}
	few.Cur = before.Cur
	return unix.Prlimit(pid, unix.RLIMIT_NOFILE, &few, nil)
}
