package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/term"

	"github.com/worktally/worktally/client"
)

// ptyCmd is "worktally pty".
type ptyCmd struct {
	reach
	Command   []string `arg:"" optional:"" passthrough:"" help:"Command to run in a new terminal, after --; without one a login shell."`
	Reconnect string   `name:"reconnect" placeholder:"ID" help:"Attach to this terminal again."`
	Backend   string   `name:"backend" enum:"auto,buffered,screen" default:"auto" help:"What keeps the terminal: auto, buffered or screen."`
}

// Run attaches to a terminal that outlives the connection.
func (c ptyCmd) Run(p *program) error {
	o := client.TerminalOptions{ID: uuid.New(), Height: 24, Width: 80, Command: strings.Join(trimDashes(c.Command), " ")}
	if c.Backend != "auto" {
		o.Backend = c.Backend
	}
	if c.Reconnect != "" {
		id, err := uuid.Parse(c.Reconnect)
		if err != nil {
			return usagef("--reconnect: %v", err)
		}
		o.ID = id
	}
	in, isFile := p.stdin.(*os.File)
	raw := isFile && term.IsTerminal(int(in.Fd()))
	if raw {
		if width, height, err := term.GetSize(int(in.Fd())); err == nil {
			o.Width, o.Height = uint16(width), uint16(height)
		}
	}
	conn, err := c.dial(p.ctx, p)
	if err != nil {
		return err
	}
	defer conn.Close()
	t, err := conn.Terminal(p.ctx, o)
	if err != nil {
		return err
	}
	defer t.Close()
	defer context.AfterFunc(p.ctx, func() { _ = t.Close() })()
	if raw {
		state, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return err
		}
		defer func() { _ = term.Restore(int(in.Fd()), state) }()
		defer followSize(in, func(height, width int) { _ = t.Resize(uint16(height), uint16(width)) })()
	}
	go func() { _, _ = io.Copy(t, p.stdin) }() // ends with the process
	if _, err = io.Copy(p.stdout, t); errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
