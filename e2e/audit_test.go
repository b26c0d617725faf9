package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// auditLine is a line of the audit log.
type auditLine struct {
	Time                                                                    time.Time
	Event, User, Owner, Workspace, Agent, Target, Address, Kind, ID, Reason string
}

// String is what the tests compare.
func (l auditLine) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s by=%s on=%s/%s/%s to=%s kind=%s", l.Event, l.User, l.Owner, l.Workspace, l.Agent, l.Target, l.Kind))
}

func (w *world) audit() (lines []auditLine) {
	w.t.Helper()
	for line := range strings.Lines(w.read(w.Path("audit.jsonl"))) {
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		var l auditLine
		w.must(json.Unmarshal([]byte(line), &l))
		lines = append(lines, l)
	}
	return lines
}

// awaitAudit waits for a line that looks like this and returns the newest.
func (w *world) awaitAudit(want string) (found auditLine) {
	w.t.Helper()
	w.await(patience, want, func(context.Context) error {
		for _, l := range slices.Backward(w.audit()) {
			if l.String() == want {
				found = l
				return nil
			}
		}
		return fmt.Errorf("there is only %v", w.audit())
	})
	return found
}

// TestAudit: every event through the real programs: who, what, when and from where.
func TestAudit(t *testing.T) {
	t.Parallel()
	began := time.Now()
	w := newWorld(t)
	w.startServer("--audit-log", w.Path("audit.jsonl"))
	w.awaitAudit("user_created by= on=// to=admin kind=")
	w.apply(spec("ws", ""))
	created := w.awaitAudit("workspace_created by=admin on=admin/ws/ to= kind=")
	w.startAgent()
	w.awaitReport()
	connected := w.awaitAudit("agent_connected by= on=admin/ws/main to= kind=")
	for _, l := range []auditLine{created, connected} {
		if host, _, err := net.SplitHostPort(l.Address); err != nil || host != "127.0.0.1" || l.Time.Before(began) || l.Time.After(time.Now()) {
			t.Errorf("%s at %s from %q", l.Event, l.Time, l.Address)
		}
	}
	w.must(w.echo())
	in, out := w.awaitAudit("client_connected by=admin on=admin/ws/main to= kind="), w.awaitAudit("client_disconnected by=admin on=admin/ws/main to= kind=")
	if in.ID == "" || in.ID != out.ID {
		t.Errorf("ids of one client: %q, %q", in.ID, out.ID)
	}
	in, out = w.awaitAudit("connection_opened by= on=admin/ws/main to= kind=ssh"), w.awaitAudit("connection_closed by= on=admin/ws/main to= kind=ssh")
	if in.ID == "" || in.ID != out.ID || in.Address == "" {
		t.Errorf("ids of one connection: %q, %q, from %q", in.ID, out.ID, in.Address)
	}
	w.knock(uuid.NewString())
	if l := w.awaitAudit("login_failed by= on=// to= kind=agent"); l.Reason != "unknown_token" || l.Address == "" {
		t.Errorf("%+v", l)
	}
	cmd := w.server.Command(t.Context(), "workspace", "list")
	cmd.Env = append(cmd.Env, "WORKTALLY_TOKEN=wrong")
	if err := cmd.Run(); err == nil {
		t.Error("a wrong token was let in")
	}
	if l := w.awaitAudit("login_failed by= on=// to= kind=person"); l.Reason != "invalid_token" || l.Address == "" {
		t.Errorf("%+v", l)
	}
	for _, args := range []string{"user create kim", "user rotate-token kim", "user delete kim", "workspace rotate-token ws --grace 0"} {
		w.cli(strings.Fields(args)...)
	}
	w.awaitAudit("user_created by=admin on=// to=kim kind=")
	w.awaitAudit("token_rotated by=admin on=// to=kim kind=")
	w.awaitAudit("user_deleted by=admin on=// to=kim kind=")
	w.awaitAudit("token_rotated by=admin on=admin/ws/main to= kind=")
	if l := w.awaitAudit("agent_disconnected by= on=admin/ws/main to= kind="); !strings.Contains(l.Reason, "no longer") || l.ID != connected.ID {
		t.Errorf("%s because %q as %q, it began as %q", l.Event, l.Reason, l.ID, connected.ID)
	}
	w.cli("workspace", "apply", "-f", w.write("workspace.yaml", spec("ws", "    directory: /tmp\n")))
	w.awaitAudit("workspace_changed by=admin on=admin/ws/ to= kind=")
	w.cli("import", w.write("import.json", `{"user": {"username": "lee"}}`))
	if l := w.awaitAudit("imported by=admin on=// to= kind="); l.Reason != "stored map[user:1]" {
		t.Errorf("%+v", l)
	}
	w.cli("workspace", "delete", "ws")
	w.awaitAudit("workspace_deleted by=admin on=admin/ws/ to= kind=")
	if info, err := os.Stat(w.Path("audit.jsonl")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// An event is counted before it is written, and the agent goes on knocking.
	w.await(patience, "every event is written", func(ctx context.Context) error {
		p, err := w.server.Metrics(ctx)
		if err != nil {
			return err
		}
		if lines, counted := len(w.audit()), p.Sum("worktally_audit_events_total"); float64(lines) < counted || p.Sum("worktally_audit_dropped_total") != 0 || counted < 15 {
			return fmt.Errorf("%d lines, %g events, %g dropped", lines, counted, p.Sum("worktally_audit_dropped_total"))
		}
		return nil
	})
}

// TestAudit_FullDisk: with an audit log that cannot be written everything else goes
// on, and what is missing is counted.
func TestAudit_FullDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startServer("--audit-log", "/dev/full")
	w.apply(spec("ws", ""))
	w.startAgent()
	w.awaitReport()
	w.must(w.echo())
	w.await(patience, "missing events are counted", func(ctx context.Context) error {
		p, err := w.server.Metrics(ctx)
		if err == nil && (p.Sum("worktally_audit_dropped_total") < 4 || !strings.Contains(w.read(w.server.Log), "no space left on device")) {
			err = errors.New("they are not, or nothing is logged")
		}
		return err
	})
}
