// Command agent is worktally-agent: it runs inside a workspace and can stand in
// for "coder agent" in a template's init script.
//
// It turns flags and environment into options of the agent, and nothing more.
// Exit codes: 0 stopped on request, 1 failed, 2 wrong usage.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	_ "time/tzdata" // schedules name time zones, and a container may have none

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/agentgit"
	"github.com/worktally/worktally/internal/buildinfo"
	"github.com/worktally/worktally/internal/cliflag"
	"github.com/worktally/worktally/internal/exitcode"
)

// process is what the program may use of the world.
type process struct {
	args           []string
	getenv         func(string) string
	environ        func() []string
	stdin          io.Reader
	stdout, stderr io.Writer
	// signals delivers the signals that the agent minds.
	signals <-chan os.Signal
}

func main() {
	p := process{
		args: os.Args[1:], getenv: os.Getenv, environ: os.Environ,
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	}
	stop := func() {}
	if !p.becomesAnother() {
		p.signals, stop = notify()
	}
	code := run(context.Background(), p)
	stop()
	os.Exit(code)
}

// becomesAnother says that the process is about to run another program in its place,
// which a signal that is read here would not reach.
func (p process) becomesAnother() bool { return len(p.args) > 0 && p.args[0] == "agent-exec" }

// run is the program without the process: it returns the exit code. The helpers
// that children reach come first, because they have a form of their own.
func run(ctx context.Context, p process) int {
	switch {
	case agentgit.IsAskpass(p.args, p.environ()):
		return agentgit.Askpass(ctx, p.args, p.getenv, helperClient(p.getenv), p.stdout, p.stderr)
	case len(p.args) > 0 && p.args[0] == "gitssh":
		return agentgit.GitSSH(ctx, p.args[1:], p.getenv, helperClient(p.getenv), p.stdin, p.stdout, p.stderr)
	case len(p.args) > 1 && p.args[0] == "external-auth" && p.args[1] == "access-token":
		return agentgit.AccessToken(ctx, p.args[2:], p.getenv, helperClient(p.getenv), p.stdout, p.stderr)
	case p.becomesAnother():
		if err := agentexec.RunPriority(p.args[1:]); err != nil {
			fmt.Fprintf(p.stderr, "worktally-agent: %v\n", err)
			return exitcode.Failed
		}
		return exitcode.OK
	case len(p.args) > 0 && p.args[0] == "version":
		b := buildinfo.Get()
		fmt.Fprintf(p.stdout, "worktally-agent %s (revision %s, %s)\n", b.Version, b.Revision, b.GoVersion)
		return exitcode.OK
	}
	args := p.args
	if len(args) > 0 && args[0] == "agent" {
		args = args[1:]
	}
	var f flags
	program := cliflag.Program{Name: "worktally-agent", Description: "Runs inside a workspace: scripts, SSH and terminals, and counts what happens."}
	if code, ok := program.Parse(&f, args, p.getenv, p.stdout, p.stderr); !ok {
		return code
	}
	if code, done := reap(p, f); done {
		return code
	}
	if err := runAgent(ctx, p, f); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(p.stderr, "worktally-agent: %s\n", line)
		}
		if isUsage(err) {
			return exitcode.Usage
		}
		return exitcode.Failed
	}
	return exitcode.OK
}
