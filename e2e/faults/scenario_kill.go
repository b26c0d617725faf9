package main

import (
	"context"
	"errors"
	"time"
)

// serverKill: the server dies at random moments.
func serverKill(ctx context.Context, w *world) error {
	if _, err := w.addWorkspace(ctx, "ws"); err != nil {
		return err
	}
	for range w.o.kills {
		if err := pause(ctx, w.random(2*time.Second)); err != nil {
			return err
		}
		if err := errors.Join(w.killServer(ctx, w.random(time.Second)), w.awaitReport(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// agentKill: the agent dies at random moments. What is older than promised must
// be there, and nothing twice.
func agentKill(ctx context.Context, w *world) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	for range w.o.kills {
		if err := pause(ctx, w.random(2*(promise+standstill))); err != nil {
			return err
		}
		if err := ws.killAgent(ctx, w.random(time.Second)); err != nil {
			return err
		}
	}
	return w.awaitReport(ctx)
}

// bothKill: agent and server die at random moments, the agent also while there is
// no server.
func bothKill(ctx context.Context, w *world) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	for i := range w.o.kills {
		if err := pause(ctx, w.random(2*(promise+standstill))); err != nil {
			return err
		}
		w.server.Kill()
		w.r.Kills++
		if err := pause(ctx, w.random(2*time.Second)); err != nil {
			return err
		}
		if (uint64(i)+w.seed)%2 == 0 {
			err = errors.Join(ws.killAgent(ctx, 0), w.server.Start(ctx))
		} else {
			err = errors.Join(w.server.Start(ctx), pause(ctx, w.random(time.Second)), ws.killAgent(ctx, w.random(time.Second)))
		}
		if err != nil {
			return err
		}
	}
	return w.awaitReport(ctx)
}

// agentStop: the agent is stopped in order, with the server there and without.
func agentStop(ctx context.Context, w *world) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	nothing := func() error { return nil }
	for range 2 {
		if err := errors.Join(pause(ctx, w.random(3*time.Second)), ws.stopAgent(ctx, nothing)); err != nil {
			return err
		}
	}
	w.server.Kill()
	w.r.Kills++
	if err := errors.Join(pause(ctx, w.random(3*time.Second)), ws.stopAgent(ctx, nothing), pause(ctx, w.random(3*time.Second))); err != nil {
		return err
	}
	return errors.Join(w.server.Start(ctx), w.awaitReport(ctx))
}
