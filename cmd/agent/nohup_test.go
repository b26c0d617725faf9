//go:build unix

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

// nohup runs a program that inherits an ignored SIGHUP.
func nohup() []string { return []string{"sh", "-c", `trap "" HUP; exec "$0" "$@"`} }

// TestProgram_Nohup: an agent that was started to survive its terminal does; what it
// starts ends with SIGHUP as ever.
func TestProgram_Nohup(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	child := filepath.Join(t.TempDir(), "child")
	m := wiretest.NewManifest()
	wiretest.AddScript(m, `sh -c 'kill -HUP $$; echo alive' > `+child, func(s *agentpb.WorkspaceAgentScript) { s.RunOnStart = true })
	s := wiretest.Start(t, wiretest.Options{Manifest: m})
	w := newWorld(t, s)
	cmd := w.program(ctx, nohup(), "agent")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.WaitCalls(t, "UpdateLifecycle", 2)
	if text := readFile(t, child); text != "" {
		t.Errorf("a child of it is %s", text)
	}
	for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGQUIT} {
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a dump", func() bool { return strings.Contains(w.stderr.String(), "dumped the stacks") })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || strings.Contains(w.stderr.String(), "signal=hangup") {
		t.Errorf("%v; stderr:\n%s", err, w.stderr.String())
	}
}

// TestProgram_NohupHelpers: what a helper starts survives like the helper.
func TestProgram_NohupHelpers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const survivor = "kill -HUP $$; echo alive"
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte("#!"+testtool.Find(t, "sh")+"\n"+survivor+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"gitssh", "--", "git@example.test"}, {"agent-exec", "--", "sh", "-c", survivor}} {
		w := newWorld(t, wiretest.Start(t, wiretest.Options{}))
		w.env["CODER_AGENT_URL"] = strings.TrimSuffix(w.env["CODER_AGENT_URL"], "/")
		w.env["PATH"] = bin + ":" + w.env["PATH"]
		if err := w.program(ctx, nohup(), args...).Run(); err != nil || w.stdout.String() != "alive\n" {
			t.Errorf("%s: %v; %q, stderr:\n%s", args[0], err, w.stdout.String(), w.stderr.String())
		}
	}
}
