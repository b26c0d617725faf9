package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/worktally/worktally/e2e/stack"
)

// deadServer: there is no server for a while. Then totals are right at once, and
// the history of that time follows.
func deadServer(ctx context.Context, w *world) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	if err := w.awaitReport(ctx); err != nil {
		return err
	}
	w.server.Kill()
	w.r.Kills++
	w.r.Outages++
	if err := pause(ctx, 15*time.Second); err != nil {
		return err
	}
	page, err := ws.agent.Metrics(ctx)
	if err != nil {
		return err
	}
	waiting := page.Sum("agent_outbox_records")
	if waiting < 10 {
		return fmt.Errorf("after 15 s of silence %v windows wait", waiting)
	}
	if err := w.server.Start(ctx); err != nil {
		return err
	}
	return stack.Await(ctx, patience, func() error {
		agent, server, err := stack.BothPages(ctx, ws.agent, w.server)
		if err != nil {
			return err
		}
		history := server.Sum("worktally_ledger_windows_total", `result="history"`)
		if left := agent.Sum("agent_outbox_records"); left > 2 || history < waiting-2 {
			return fmt.Errorf("%v windows wait, %v of %v have arrived", left, history, waiting)
		}
		return nil
	})
}

// rebuild: the workspace is built again without its agent and then with it, which
// has another token then, while windows of the old build wait.
func rebuild(ctx context.Context, w *world) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	for range 2 {
		if err := errors.Join(w.awaitReport(ctx), ws.rebuild(ctx)); err != nil {
			return err
		}
	}
	return w.awaitReport(ctx)
}

func (ws *workspace) rebuild(ctx context.Context) error {
	ws.link.Lead("127.0.0.1:1") // nobody is there
	ws.w.r.Outages++
	if err := pause(ctx, 3*time.Second+ws.w.random(3*time.Second)); err != nil {
		return err
	}
	return ws.stopAgent(ctx, func() error {
		file := ws.w.Path("stopped.yaml")
		if err := os.WriteFile(file, []byte(document(ws.name, "\n  - name: another\n")), 0o600); err != nil {
			return err
		}
		if _, err := ws.w.server.CLI(ctx, "workspace", "apply", "-f", file); err != nil {
			return err
		}
		token, err := ws.w.apply(ctx, ws.name, withAgent(ws.name))
		ws.link.Lead(ws.w.server.Address)
		return errors.Join(err, ws.agent.SetToken(token))
	})
}
