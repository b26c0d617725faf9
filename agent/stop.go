package agent

import (
	"context"
	"errors"
	"time"

	"github.com/worktally/worktally/agent/agentscripts"
	"github.com/worktally/worktally/wire/agentpb"
)

// The limits of the steps of a stop (contract agent-api.md section 6.10).
const (
	sessionsDrain = 5 * time.Second
	scriptsLimit  = 10 * time.Minute
	lastReport    = 2 * time.Second
	lastWords     = 5 * time.Second
)

// stop ends everything in the order that loses nothing: sessions first, then the
// stop scripts, then the report that has it all, then the final state.
func (a *Agent) stop(w *serving, endLife context.CancelFunc) {
	a.log.Info("stopping")
	a.client.SetLifecycle(agentpb.Lifecycle_SHUTTING_DOWN)
	w.mu.Lock()
	w.stop = true
	ssh, pty, network := w.ssh, w.pty, w.net
	w.mu.Unlock()
	step := func(name string, limit time.Duration, f func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		err := f(ctx)
		if err != nil {
			a.log.Warn("stopping", "step", name, "err", err)
		}
		return err
	}
	if ssh != nil {
		_ = step("ssh sessions", sessionsDrain, ssh.Close)
	}
	if pty != nil {
		_ = step("terminals", sessionsDrain, pty.Close)
	}
	a.closeListeners()
	a.client.BeginShutdown()
	final := agentpb.Lifecycle_SHUTDOWN_ERROR // also of an agent that never had a manifest
	if a.manifest.Load() != nil {
		final = stopState(step("stop scripts", scriptsLimit, a.scripts.Stop))
	}
	endLife()
	_ = step("scripts", sessionsDrain, a.scripts.Close)
	_ = step("what was served", sessionsDrain, w.ended)
	if network != nil {
		network.close() // what it counts last belongs to the last report
	}
	if a.manifest.Load() != nil {
		_ = step("last report", lastReport, a.client.FlushReport)
	}
	a.client.SetLifecycle(final)
	if a.manifest.Load() != nil || a.client.Health().Connected {
		_ = step("last words", lastWords, func(ctx context.Context) error {
			return errors.Join(a.client.LifecycleReported(ctx), a.client.LogsSent(ctx))
		})
	}
}

func stopState(err error) agentpb.Lifecycle_State {
	switch {
	case err == nil:
		return agentpb.Lifecycle_OFF
	case errors.Is(err, agentscripts.ErrTimeout):
		return agentpb.Lifecycle_SHUTDOWN_TIMEOUT
	}
	return agentpb.Lifecycle_SHUTDOWN_ERROR
}

// closeListeners closes those that nobody came to serve.
func (a *Agent) closeListeners() {
	if a.o.SSHListener != nil {
		_ = a.o.SSHListener.Close()
	}
	if a.o.PTYListener != nil {
		_ = a.o.PTYListener.Close()
	}
}
