package agentscripts

import (
	"os/exec"
	"sync"
	"time"

	"github.com/worktally/worktally/agent/agentexec"
)

// reaper ends the process group of one run. The zero value is ready.
type reaper struct {
	// mu guards the fields below and keeps the kill from hitting a group that
	// was awaited already, whose number may belong to somebody else.
	mu                        sync.Mutex
	over, interrupted, killed bool
	timer                     *time.Timer
}

// interrupt sends SIGHUP to the group now and SIGKILL after the given time.
func (g *reaper) interrupt(cmd *exec.Cmd, killAfter time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.interrupted = true
	g.timer = time.AfterFunc(killAfter, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if !g.over {
			g.killed = agentexec.Kill(cmd.Process) == nil
		}
	})
	return agentexec.HangUp(cmd.Process)
}

// ended says that the process was awaited and returns what was done to it.
func (g *reaper) ended() (interrupted, killed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	if g.timer != nil {
		g.timer.Stop()
	}
	return g.interrupted, g.killed
}
