package main

import (
	"context"
	"fmt"
	"time"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/internal/faultnet"
)

// linkTime is how long a network stays bad.
const linkTime = 10 * time.Second

// links are the scenarios of a bad network between agent and server.
func links() (list []scenario) {
	for _, bad := range []struct {
		name   string
		faults faultnet.Faults
	}{
		{"link-latency", faultnet.Faults{Latency: 200 * time.Millisecond}},
		{"link-slow", faultnet.Faults{Rate: 16 << 10}},
		{"link-slices", faultnet.Faults{Slice: 5}},
		{"link-break", faultnet.Faults{Break: 20_000}},
		{"link-all", faultnet.Faults{Latency: 200 * time.Millisecond, Rate: 16 << 10, Slice: 100, Break: 40_000}},
	} {
		list = append(list, scenario{name: bad.name, run: func(ctx context.Context, w *world) error { return badLink(ctx, w, bad.faults) }})
	}
	return append(list,
		scenario{name: "link-cut", run: linkCut},
		scenario{name: "link-half-close", run: linkHalfClose},
		scenario{name: "link-stall", run: linkStall},
	)
}

// badLink: the network is bad for a while, and then good again.
func badLink(ctx context.Context, w *world, f faultnet.Faults) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	if f.Break > 0 { // the connection that there is knows nothing of it
		ws.link.Cut()
	}
	ws.link.Set(f)
	if err := pause(ctx, linkTime); err != nil {
		return err
	}
	if f.Break == 0 { // bad as it is, reports come through
		if err := w.awaitReport(ctx); err != nil {
			return fmt.Errorf("with %+v: %w", f, err)
		}
	}
	_, broken := ws.link.Connections()
	w.r.Outages += int(max(broken, 1))
	ws.link.Cut()
	return w.awaitReport(ctx)
}

// linkCut: the network is reset at random moments.
func linkCut(ctx context.Context, w *world) error {
	return w.interrupt(ctx, 6, func(link *faultnet.Proxy, _ int) { link.Cut() })
}

// linkHalfClose: one direction ends, then the other one at another time.
func linkHalfClose(ctx context.Context, w *world) error {
	return w.interrupt(ctx, 4, func(link *faultnet.Proxy, i int) { link.HalfClose(i%2 == 0) })
}

// interrupt does something to the network at random moments, and waits for a report
// after each.
func (w *world) interrupt(ctx context.Context, times int, do func(link *faultnet.Proxy, i int)) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	for i := range times {
		if err := pause(ctx, w.random(2*time.Second)); err != nil {
			return err
		}
		do(ws.link, i)
		w.r.Outages++
		if err := w.awaitReport(ctx); err != nil {
			return err
		}
	}
	return nil
}

// linkStall: nothing comes through and nobody says so, for longer and shorter than
// it takes to notice.
func linkStall(ctx context.Context, w *world) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	for _, d := range []time.Duration{w.random(3 * time.Second), 25 * time.Second} {
		ws.link.Set(faultnet.Faults{Stall: true})
		w.r.Outages++
		if err := pause(ctx, d); err != nil {
			return err
		}
		ws.link.Set(faultnet.Faults{})
		if err := w.awaitReport(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lostReply: a report is committed, its reply is lost, and then the connection or
// the server.
func lostReply(ctx context.Context, w *world) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	for i := range 4 {
		if err := pause(ctx, w.random(2*time.Second)); err != nil {
			return err
		}
		ws.link.Set(faultnet.Faults{LoseReplies: true})
		w.r.Outages++
		if err := stack.AwaitLostReply(ctx, patience, ws.agent, w.server, interval); err != nil {
			return err
		}
		if i%2 == 0 {
			ws.link.Cut()
		} else {
			w.server.Kill()
			w.r.Kills++
			ws.link.Cut()
			if err := w.server.Start(ctx); err != nil {
				return err
			}
		}
		if err := w.awaitReport(ctx); err != nil {
			return err
		}
	}
	return nil
}
