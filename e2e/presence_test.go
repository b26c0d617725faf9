package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/worktally/worktally/e2e/stack"
)

const (
	// grace is added to two intervals before a silent agent's series end.
	grace = 10 * time.Second
	// slack is what a report, its commit and our asking may take together, when one of
	// the programs or the disk stands still for a moment.
	slack = 5 * time.Second
	// soon is when what happens at once must have happened. Silence is noticed later.
	soon = 8 * time.Second
)

// sshGauge is shown as long as an agent reports.
const sshGauge = "coderd_agentstats_session_count_ssh"

// TestSession_VisibleWithinAnInterval: what begins or ends is on the page with the next
// report. Reports are what is counted, because they are late on a slow machine.
func TestSession_VisibleWithinAnInterval(t *testing.T) {
	t.Parallel()
	w := start(t, "")
	w.awaitPage(patience, "a report", func(p stack.Page) bool { return p.Has(sshGauge) })
	for _, kind := range []struct {
		gauge   string
		options []string
	}{
		{sshGauge, nil},
		{"coderd_agentstats_session_count_vscode", []string{"-o", "SetEnv=CODER_SSH_SESSION_TYPE=vscode"}},
	} {
		h := w.hold(kind.options...)
		w.nextReportHas(kind.gauge, 1)
		h.end(w)
		w.nextReportHas(kind.gauge, 0)
	}
}

// nextReportHas waits until a gauge is what it should be. The report that is under way
// may be older, and a page may count reports that came while it was made.
func (w *world) nextReportHas(gauge string, want float64) {
	w.t.Helper()
	before := -1.0
	w.awaitPage(3*interval+slack, fmt.Sprintf("%s is %v with the next report", gauge, want), func(p stack.Page) bool {
		reports := p.Sum("worktally_reports_total", `result="ok"`)
		if before < 0 {
			before = reports
		}
		if p.Has(gauge) && p.Sum(gauge) == want {
			return true
		}
		if reports > before+3 {
			w.t.Fatalf("%s is %v, not %v, %v reports later", gauge, p.Sum(gauge), want, reports-before)
		}
		return false
	})
}

func TestAgent_SilentEnds(t *testing.T) {
	t.Parallel()
	w := start(t, "")
	h := w.hold()
	w.awaitPage(patience, "the session", func(p stack.Page) bool { return p.Sum(sshGauge) == 1 })
	w.agent.Signal(syscall.SIGSTOP)
	silent := time.Now()
	w.endsInTime(silent)
	// Up to now nobody knows that it is gone; the pings tell, within 30 s.
	w.awaitPage(30*time.Second+2*slack-time.Since(silent), "the silent agent is disconnected", func(p stack.Page) bool {
		return p.Sum("coderd_agents_connections", `status="disconnected"`) == 1 && p.Sum("coderd_agents_up") == 0
	})
	// It wakes up, finds its session gone, comes back, and the session is there.
	w.agent.Signal(syscall.SIGCONT)
	w.awaitPage(patience, "the agent is back", func(p stack.Page) bool { return p.Sum(sshGauge) == 1 && p.Sum("coderd_agents_up") == 1 })
	h.end(w)
}

// endsInTime: the series of an agent that is silent since then end when they
// must, not before, and together.
func (w *world) endsInTime(silent time.Time) {
	w.t.Helper()
	limit := 2*interval + grace
	w.awaitPage(limit+slack, "the series end", func(p stack.Page) bool {
		for key := range p {
			if strings.HasPrefix(key, "coderd_agentstats_") || strings.HasPrefix(key, "agent_") {
				return false
			}
		}
		return true
	})
	// The last report was up to an interval older than the silence.
	if took := time.Since(silent); took < limit-interval-slack {
		w.t.Errorf("the series ended %s after the agent fell silent, which is too early", took)
	}
	p, err := w.server.Metrics(w.t.Context())
	w.must(err)
	if p.Sum("worktally_workspace_sessions_total") != 1 {
		w.t.Errorf("the deployment's sessions are %v", p.Sum("worktally_workspace_sessions_total"))
	}
}

func TestAgent_KilledEnds(t *testing.T) {
	t.Parallel()
	w := start(t, "")
	h := w.hold()
	w.awaitPage(patience, "the session", func(p stack.Page) bool { return p.Sum(sshGauge) == 1 })
	w.agent.Kill()
	silent := time.Now()
	h.abandoned(w)
	// Its connection is closed by the system, which the server sees at once.
	w.awaitPage(soon, "the killed agent is disconnected", func(p stack.Page) bool {
		return p.Sum("coderd_agents_connections", `status="disconnected"`) == 1 && p.Sum("coderd_agents_up") == 0
	})
	w.endsInTime(silent)
}

// abandoned waits for the end of a session whose agent is gone.
func (h *held) abandoned(w *world) {
	w.t.Helper()
	force := time.AfterFunc(patience, func() { _ = h.cmd.Process.Kill() })
	defer force.Stop()
	if exit, ok := errors.AsType[*exec.ExitError](h.cmd.Wait()); !ok || exit.ExitCode() != 255 {
		w.t.Errorf("ssh ended with %v, not with 255", exit)
	}
}

const stopping = `    scripts:
      - name: greet
        on: start
        script: echo true >>"$E2E/notes"
      - name: farewell
        on: stop
        script: echo true >>"$E2E/notes"
`

func TestAgent_StopDeliversTheLastReport(t *testing.T) {
	t.Parallel()
	w := start(t, stopping)
	h := w.hold()
	w.awaitPage(patience, "the session", func(p stack.Page) bool { return p.Sum(sshGauge) == 1 })
	w.must(w.oneCommandOf(100_000)) // nobody has reported it yet
	w.agent.Signal(syscall.SIGTERM)
	h.abandoned(w)
	if code := w.agent.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	// No report can come any more: what is there now is all.
	p, err := w.server.Metrics(t.Context())
	w.must(err)
	for key := range p {
		if strings.HasPrefix(key, "coderd_agentstats_") || strings.HasPrefix(key, "agent_") {
			t.Errorf("%s is still there", key)
		}
	}
	w.awaitPage(patience, "the agent is off, its counts are complete", func(p stack.Page) bool {
		return p.Sum("coderd_agents_connections", `lifecycle_state="off"`) == 1 && p.Sum("coderd_agents_up") == 0 &&
			p.Sum("worktally_workspace_scripts_total", `success="true"`) == 2 && p.Sum("worktally_workspace_sessions_total") == 2
	})
	if list := w.cli("workspace", "list"); !strings.Contains(list, "off") {
		t.Errorf("workspace list: %s", list)
	}
	if n, err := w.notes(); err != nil || n.ok != 2 {
		t.Errorf("%d scripts ran (%v)", n.ok, err)
	}
	w.awaitPage(patience, "the bytes of the last moment", func(p stack.Page) bool {
		_, from := w.agent.SSH.Counts()
		return p.Sum("worktally_workspace_bytes_total", `direction="transmit"`) == float64(from)
	})
}
