package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

// TestReaper_AsProcessOne runs the program as process 1 of a namespace: orphans
// are reaped, signals reach the agent, and its exit code comes out.
func TestReaper_AsProcessOne(t *testing.T) {
	unshare := asProcessOne(t)
	dir := t.TempDir()
	m := wiretest.NewManifest()
	// A grandchild that outlives its parent, and says so; then what is left of it
	// is looked for.
	wiretest.AddScript(m, `sh -c '(sleep 0.1; echo orphan ended > `+dir+`/orphan) >/dev/null 2>&1 </dev/null &'
while [ ! -s `+dir+`/orphan ]; do sleep 0.02; done
i=0; while z=$(grep -h '^State:.*zombie' /proc/[0-9]*/status 2>/dev/null); [ "$z" ] && [ $i -lt 500 ]; do i=$((i+1)); sleep 0.02; done
printf %s "$z" > `+dir+`/zombies
tr '\0' ' ' < /proc/1/cmdline > `+dir+`/one; ls /proc | grep -c '^[0-9]*$' > `+dir+`/count`,
		func(s *agentpb.WorkspaceAgentScript) { s.RunOnStart = true })
	s := wiretest.Start(t, wiretest.Options{Manifest: m})
	w := newWorld(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := w.program(ctx, unshare, "agent")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.WaitCalls(t, "UpdateLifecycle", 2)
	if zombies := readFile(t, filepath.Join(dir, "zombies")); zombies != "" {
		t.Errorf("processes that nobody reaped:\n%s", zombies)
	}
	if one := readFile(t, filepath.Join(dir, "one")); strings.Contains(one, "--no-reap") || !strings.Contains(one, "agent") {
		t.Errorf("process 1 is %q", one)
	}
	log := filepath.Join(w.logDir, initLog)
	eventually(t, "the log of process 1", func() bool { return strings.Contains(readFile(t, log), "reaping") })
	// unshare forwards nothing: the signal goes to its child, process 1 in there.
	children := fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", cmd.Process.Pid)
	pid, err := strconv.Atoi(strings.TrimSpace(readFile(t, children)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v; stderr:\n%s", err, w.stderr.String())
	}
	if !strings.Contains(readFile(t, log), "forwarding signal") {
		t.Errorf("log of process 1:\n%s", readFile(t, log))
	}
	r := wiretest.Requests[*agentpb.UpdateLifecycleRequest](s.Service)
	if r[len(r)-1].GetLifecycle().GetState() != agentpb.Lifecycle_OFF {
		t.Errorf("last state %v", r[len(r)-1])
	}
}

// TestReaper_ExitCode: the agent's exit code is that of process 1.
func TestReaper_ExitCode(t *testing.T) {
	unshare := asProcessOne(t)
	w := newWorld(t, nil) // knows no server
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := w.program(ctx, unshare)
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("%v; stderr:\n%s", err, w.stderr.String())
	}
}

// asProcessOne returns the command line that makes a program process 1.
func asProcessOne(t *testing.T) []string {
	t.Helper()
	unshare := []string{testtool.Find(t, "unshare"), "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"}
	if out, err := exec.Command(unshare[0], append(unshare[1:], "true")...).CombinedOutput(); err != nil {
		testtool.Missing(t, "unshare is not allowed here: %v: %s", err, out)
	}
	return unshare
}
