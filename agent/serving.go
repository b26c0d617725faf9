package agent

import (
	"context"
	"net"
	"sync"

	"github.com/worktally/worktally/agent/agentpty"
	"github.com/worktally/worktally/agent/agentssh"
	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/countnet"
	"github.com/worktally/worktally/internal/webserve"
)

// serving is what runs between the first manifest and the stop.
type serving struct {
	wait sync.WaitGroup

	// mu guards everything below.
	mu   sync.Mutex
	ssh  *agentssh.Server // nil if it cannot be served
	pty  *agentpty.Server // likewise
	net  *network         // nil before the first manifest, or without tailnet
	stop bool
}

// ended waits until all of it has ended. What reads a disk that hangs may not.
func (w *serving) ended(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.wait.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startServing starts what waits for an identity: SSH, terminals, the tailnet
// and scripts.
func (a *Agent) startServing(life context.Context) *serving {
	w := &serving{}
	w.wait.Go(func() {
		// The token, which the cache goes by, may take a while to get.
		if err := a.recallIdentity(life); err != nil && life.Err() == nil {
			a.log.Warn("read cached identity", "err", err)
		}
		if !a.awaitIdentity(life) {
			return
		}
		a.serveSessions(w)
		select {
		case <-a.firstManifest:
			a.joinTailnet(w)
		case <-life.Done():
		}
	})
	w.wait.Go(func() {
		select {
		case <-a.firstManifest:
			a.runScripts(life)
		case <-life.Done():
		}
	})
	return w
}

// serveSessions makes the servers and serves the listeners that were given.
func (a *Agent) serveSessions(w *serving) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop {
		return
	}
	var err error
	if w.ssh, err = a.newSSH(); err != nil {
		a.log.Error("SSH is not served", "err", err)
	}
	w.pty, err = agentpty.New(agentpty.Options{
		Log: a.log, Commands: a.commands, Tally: a.tally, Connections: a.newReporter(), Timeout: a.o.PTYTimeout,
	})
	if err != nil {
		a.log.Error("reconnecting terminals are not served", "err", err)
	}
	if l := a.o.SSHListener; l != nil {
		if w.ssh == nil {
			_ = l.Close()
		} else {
			a.serve(w, "ssh", w.ssh.Serve, countnet.Listen(a.counted(l), a.flow(stats.PathTCP, "TCP")))
		}
	}
	if l := a.o.PTYListener; l != nil {
		if w.pty == nil {
			_ = l.Close()
			return
		}
		path, proto := stats.PathTCP, "TCP"
		if l.Addr().Network() == "unix" {
			path, proto = stats.PathUnix, "unix"
		}
		a.serve(w, "reconnecting terminals", w.pty.Serve, countnet.Listen(a.counted(l), a.flow(path, proto)))
	}
}

// counted counts what the system cannot accept.
func (a *Agent) counted(l net.Listener) net.Listener {
	return webserve.CountFailures(l, func() { a.tally.Drop(stats.DropAccepts, 1) })
}

func (a *Agent) serve(w *serving, what string, f func(net.Listener) error, l net.Listener) {
	w.wait.Go(func() {
		if err := f(l); err != nil {
			a.log.Error("serving ended", "what", what, "err", err)
		}
	})
}

// joinTailnet starts the network. Without it the agent still works for whoever
// reaches its listeners.
func (a *Agent) joinTailnet(w *serving) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop || a.o.DisableTailnet {
		return
	}
	n, err := a.startNetwork(w)
	if err != nil {
		a.log.Error("the agent is not on the tailnet", "err", err)
		return
	}
	w.net = n
	a.net.Store(n)
	close(a.netUp)
}

func (a *Agent) flow(p stats.Path, proto string) func() countnet.Flow {
	return func() countnet.Flow { return a.tally.OpenFlow(p, proto) }
}
