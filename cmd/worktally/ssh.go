package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

// sshCmd is "worktally ssh".
type sshCmd struct {
	reach
	Command []string `arg:"" optional:"" passthrough:"" help:"Command to run, after --; without one a login shell."`
	Stdio   bool     `name:"stdio" help:"Carry the SSH protocol over the standard input and output, for ProxyCommand."`
	Prefix  string   `name:"host-prefix" help:"Drop this from the workspace's name, and read -- in it as config-ssh writes it."`
	App     string   `name:"usage-app" envs:"WORKTALLY_USAGE_APP" help:"Application that the session counts for, such as vscode; with --stdio the SSH client says it."`
}

// Run runs a command or a shell and ends with its exit code.
func (c sshCmd) Run(p *program) error {
	if c.Prefix != "" {
		c.Workspace = workspaceOfHost(strings.TrimPrefix(c.Workspace, c.Prefix))
	}
	conn, err := c.dial(p.ctx, p)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.Stdio {
		remote, err := conn.DialPort(p.ctx, 1)
		if err != nil {
			return err
		}
		return carry(p, remote)
	}
	s, err := conn.SSH(p.ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	defer context.AfterFunc(p.ctx, func() { _ = s.Close() })()
	return c.session(p, s)
}

// workspaceOfHost reads workspace, owner--workspace or owner--workspace--agent.
func workspaceOfHost(host string) string {
	parts := strings.Split(host, "--")
	switch len(parts) {
	case 2:
		return parts[0] + "/" + parts[1]
	case 3:
		return parts[0] + "/" + parts[1] + "." + parts[2]
	}
	return host
}

// carry connects the standard input and output with the agent's SSH port, until
// that ends or the program is to stop. It closes the connection.
func carry(p *program, remote net.Conn) error {
	defer remote.Close()
	defer context.AfterFunc(p.ctx, func() { _ = remote.Close() })()
	go func() { // ends with the process: a read of the standard input cannot be ended
		_, _ = io.Copy(remote, p.stdin)
		if h, ok := remote.(interface{ CloseWrite() error }); ok {
			_ = h.CloseWrite()
		}
	}()
	_, err := io.Copy(p.stdout, remote)
	return err
}

func (c sshCmd) session(p *program, conn *ssh.Client) error {
	s, err := conn.NewSession()
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	defer s.Close()
	if c.App != "" {
		if err := s.Setenv("CODER_SSH_SESSION_TYPE", c.App); err != nil {
			return fmt.Errorf("name the application: %w", err)
		}
	}
	s.Stdin, s.Stdout, s.Stderr = p.stdin, p.stdout, p.stderr
	command := strings.Join(trimDashes(c.Command), " ")
	if in, ok := p.stdin.(*os.File); ok && term.IsTerminal(int(in.Fd())) && command == "" {
		restore, err := interactive(s, in)
		if err != nil {
			return err
		}
		defer restore()
	}
	if command == "" {
		err = s.Shell()
	} else {
		err = s.Start(command)
	}
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	err = s.Wait()
	if exit, ok := errors.AsType[*ssh.ExitError](err); ok {
		return exitError{exit.ExitStatus()}
	}
	return err
}

// trimDashes drops the -- that separates the command.
func trimDashes(args []string) []string {
	if len(args) > 0 && args[0] == "--" {
		return args[1:]
	}
	return args
}

// interactive asks for a terminal like the local one and follows its size.
func interactive(s *ssh.Session, in *os.File) (restore func(), err error) {
	width, height, err := term.GetSize(int(in.Fd()))
	if err != nil {
		width, height = 80, 24
	}
	name := os.Getenv("TERM")
	if name == "" {
		name = "xterm-256color"
	}
	if err := s.RequestPty(name, height, width, ssh.TerminalModes{}); err != nil {
		return nil, fmt.Errorf("ask for a terminal: %w", err)
	}
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("prepare the terminal: %w", err)
	}
	stop := followSize(in, func(height, width int) { _ = s.WindowChange(height, width) })
	var once sync.Once
	return func() {
		once.Do(func() {
			stop()
			_ = term.Restore(int(in.Fd()), state)
		})
	}, nil
}
