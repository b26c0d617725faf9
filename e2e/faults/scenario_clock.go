package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/internal/faultclock"
)

// clockBin is where, below the programs, those are whose clocks can be changed.
const clockBin = "faultclock"

const (
	// backLimit is how long a program that was started again may take to be on the
	// page, and all its agents: they wait a while before they dial again.
	backLimit = patience
	// endLimit is how long a killed agent stays on the page: two intervals and 10 s,
	// and some seconds in which the machine stands still.
	endLimit = 2*interval + 20*time.Second
	// gapLimit is how long something may be missing: two intervals, and as much again
	// in which the machine stands still.
	gapLimit = 4 * interval
	// steadily is how long nothing may be missing after a clock was changed.
	steadily = 3 * time.Second
)

// clock is the wall clock of a program.
type clock struct {
	file  string
	ahead time.Duration
}

func (w *world) newClock(name string) *clock { return &clock{file: w.Path(name + ".clock")} }

func (c *clock) env() []string { return []string{faultclock.Variable + "=" + c.file} }

// jump changes the clock by that much.
func (c *clock) jump(by time.Duration) error {
	c.ahead += by
	return faultclock.Set(c.file, c.ahead)
}

func clockJumps() []time.Duration {
	return []time.Duration{time.Hour, -time.Hour, -24 * time.Hour, 24 * time.Hour, 24 * time.Hour, -24 * time.Hour}
}

// clockAgent: the clock of the agent's machine is changed, while the agent runs,
// before it is killed, and while it is away.
func clockAgent(ctx context.Context, w *world) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	c := w.newClock("agent")
	ws.agent.Env = c.env()
	if err := ws.restartAfter(ctx, func() error { return nil }); err != nil {
		return err
	}
	for _, by := range clockJumps() {
		err := errors.Join(w.isShown(ctx, "ws", backLimit), c.jump(by), w.staysShown(ctx, "ws"))
		if err == nil {
			err = ws.killAgent(ctx, 0)
		}
		if err == nil {
			err = w.isShown(ctx, "ws", backLimit)
		}
		if err == nil {
			err = ws.restartAfter(ctx, func() error { return c.jump(-2 * by) })
		}
		if err != nil {
			return fmt.Errorf("%v: %w", by, err)
		}
	}
	return w.awaitReport(ctx)
}

// withServerClock starts the server with a clock that can be changed, and a workspace.
func (w *world) withServerClock(ctx context.Context) (*clock, error) {
	c := w.newClock("server")
	w.server.Env = c.env()
	if err := w.killServer(ctx, 0); err != nil {
		return nil, err
	}
	_, err := w.addWorkspace(ctx, "ws")
	return c, err
}

// clockServer: the clock of the server's machine is changed, while the server runs,
// before it is killed, and while it is away.
func clockServer(ctx context.Context, w *world) error {
	c, err := w.withServerClock(ctx)
	if err != nil {
		return err
	}
	for _, by := range clockJumps() {
		err := errors.Join(w.isShown(ctx, "ws", backLimit), c.jump(by), w.staysShown(ctx, "ws"))
		if err == nil {
			err = errors.Join(w.killServer(ctx, 0), w.isShown(ctx, "ws", backLimit))
		}
		if err == nil {
			w.server.Kill()
			w.r.Kills++
			err = errors.Join(c.jump(-2*by), w.server.Start(ctx))
		}
		if err != nil {
			return fmt.Errorf("%v: %w", by, err)
		}
	}
	return errors.Join(w.isShown(ctx, "ws", backLimit), w.awaitReport(ctx))
}

// clockEnds: an agent is killed for good when the server's clock is changed, and its
// series end in time.
func clockEnds(ctx context.Context, w *world) error {
	c, err := w.withServerClock(ctx)
	if err != nil {
		return err
	}
	for i, by := range clockJumps()[1:4] {
		for _, down := range []bool{false, true} {
			if err := w.endsInTime(ctx, fmt.Sprintf("gone-%d-%v", i, down), down, func() error { return c.jump(by) }); err != nil {
				return fmt.Errorf("%v, server down %v: %w", by, down, err)
			}
		}
	}
	return w.awaitReport(ctx)
}

// endsInTime starts another agent, kills it, and the server too if it is to be down
// meanwhile, and changes the clock.
func (w *world) endsInTime(ctx context.Context, name string, down bool, change func() error) error {
	token, err := w.apply(ctx, name, document(name, "\n  - name: main\n"))
	if err != nil {
		return err
	}
	w.o.starting.Lock()
	agent, err := w.StartAgent(ctx, "agent-"+name, "http://"+w.server.Address, token)
	w.o.starting.Unlock()
	if err != nil {
		return err
	}
	if err := w.isShown(ctx, name, backLimit); err != nil {
		return err
	}
	agent.Kill()
	if down {
		w.server.Kill()
		w.r.Kills++
	}
	if err := change(); err != nil {
		return err
	}
	if down {
		if err := w.server.Start(ctx); err != nil {
			return err
		}
	}
	return stack.Await(ctx, endLimit, func() error {
		page, err := w.server.Metrics(ctx)
		if err != nil {
			return err
		}
		of := `workspace_name="` + name + `"`
		if page.Has(shownFamily, of) || !page.Has("coderd_agents_connections", of, `status="disconnected"`) {
			return fmt.Errorf("%s is still there", name)
		}
		return nil
	})
}

// shownFamily has a series of each agent whose reports are shown.
const shownFamily = "coderd_agentstats_connection_count"

func (w *world) shown(ctx context.Context, name string) error {
	page, err := w.server.Metrics(ctx)
	if err != nil {
		return err
	}
	of := `workspace_name="` + name + `"`
	if !page.Has(shownFamily, of) || !page.Has("coderd_agents_connections", of, `status="connected"`) {
		return fmt.Errorf("%s is not shown", name)
	}
	return nil
}

// isShown waits until the reports of a workspace are on the page, and its agent is
// connected.
func (w *world) isShown(ctx context.Context, name string, limit time.Duration) error {
	return stack.Await(ctx, limit, func() error { return w.shown(ctx, name) })
}

// staysShown looks for a while. What is missing has two intervals to come back, or a
// little more.
func (w *world) staysShown(ctx context.Context, name string) error {
	for range int(steadily / (100 * time.Millisecond)) {
		if err := errors.Join(w.isShown(ctx, name, gapLimit), pause(ctx, 100*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// withClock returns the options with the programs whose clocks can be changed.
func (o options) withClock() options {
	o.bin = filepath.Join(o.bin, clockBin)
	return o
}
