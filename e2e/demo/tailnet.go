package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// tailnetPayload is what the demo downloads over the tailnet, in bytes.
const tailnetPayload = 5_000_000

// openTailnet measures the way to the agent, runs a command and a download to
// their end, and leaves a session open.
func (d *demo) openTailnet(ctx context.Context) error {
	out, err := d.server.CLI(ctx, "ping", "demo", "--num", "3", "--interval", "100ms")
	if err != nil {
		return err
	}
	fmt.Print(indent(out))
	exit := new(exec.ExitError)
	if err := d.server.Command(ctx, "ssh", "demo", "--", "exit 7").Run(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		return fmt.Errorf("worktally ssh: %v, not exit code 7", err)
	}
	d.sessions.opened++
	out, err = d.server.CLI(ctx, "ssh", "demo", "--", fmt.Sprintf("head -c %d /dev/zero", tailnetPayload))
	if err != nil || len(out) != tailnetPayload {
		return fmt.Errorf("worktally ssh: %d bytes: %w", len(out), err)
	}
	d.sessions.opened++
	return d.holdCommand(d.server.Command(context.Background(), "ssh", "demo", "--", "exec cat"))
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("         " + line)
	}
	return b.String()
}
