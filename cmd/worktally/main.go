// Command worktally is the server and the tool of the people who use it.
//
// It only turns flags and environment into options and errors into exit codes:
// 0 fine, 1 failed, 2 wrong usage. Each command is a type in a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/worktally/worktally/internal/cli"
	"github.com/worktally/worktally/internal/exitcode"
)

// commands is the command line.
type commands struct {
	Server      serverCmd      `cmd:"" help:"Run the server."`
	User        userCmd        `cmd:"" help:"Manage users (administrators; everybody may rotate their own token)."`
	Workspace   workspaceCmd   `cmd:"" help:"Manage workspaces."`
	Build       buildCmd       `cmd:"" help:"Tell of builds of workspaces (administrators), from scripts."`
	Import      importCmd      `cmd:"" help:"Import users, templates, workspaces and builds of another deployment (administrators)."`
	SSH         sshCmd         `cmd:"" name:"ssh" help:"Open a shell in a workspace or run a command there."`
	Ping        pingCmd        `cmd:"" help:"Measure the way to a workspace."`
	Speedtest   speedtestCmd   `cmd:"" help:"Measure how much goes through to a workspace."`
	PortForward portForwardCmd `cmd:"" name:"port-forward" help:"Listen on local ports and forward them to a workspace."`
	PTY         ptyCmd         `cmd:"" name:"pty" help:"Attach to a terminal that outlives the connection."`
	ConfigSSH   configSSHCmd   `cmd:"" name:"config-ssh" help:"Let OpenSSH reach workspaces."`
	Licence     licenceCmd     `cmd:"" help:"Sign and check licences."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

// program is what a command may use of the world.
type program struct {
	ctx            context.Context
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// usageError is an error of whoever typed the command: exit code 2.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program without the process: it returns the exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	p := &program{ctx: ctx, getenv: getenv, stdin: os.Stdin, stdout: stdout, stderr: stderr}
	parsed, code := cli.Parse(&commands{}, "worktally", "Counts what happens in remote development workspaces.", args, getenv, stdout, stderr)
	if parsed == nil {
		return code
	}
	if err := parsed.Run(p); err != nil {
		if exit, ok := errors.AsType[exitError](err); ok {
			return exit.code
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(stderr, "worktally: %s\n", line)
		}
		if _, usage := errors.AsType[usageError](err); usage {
			return exitcode.Usage
		}
		return exitcode.Failed
	}
	return exitcode.OK
}
