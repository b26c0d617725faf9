package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/worktally/worktally/client"
	"github.com/worktally/worktally/tailnet"
)

// reach is the part of the command line of every command that reaches a
// workspace over the tailnet.
type reach struct {
	connection
	Workspace     string        `arg:"" help:"The workspace: [owner/]workspace[.agent]."`
	DisableDirect bool          `name:"disable-direct-connections" envs:"WORKTALLY_DISABLE_DIRECT_CONNECTIONS,CODER_DISABLE_DIRECT_CONNECTIONS" help:"Stay on relays."`
	Wait          time.Duration `name:"wait-timeout" default:"2m" help:"How long to wait for the agent."`
	Verbose       bool          `name:"verbose" short:"v" help:"Say on the standard error what the network does."`
}

// dial reaches the agent. The caller closes the connection.
func (r reach) dial(ctx context.Context, p *program) (*client.Conn, error) {
	to, err := r.open(p)
	if err != nil {
		return nil, err
	}
	tailnet.PrepareProcess()
	if to.base.Scheme == "http" {
		tailnet.PreferPlainRelays()
	}
	log := slog.New(slog.DiscardHandler)
	if r.Verbose {
		log = slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return client.Dial(ctx, client.Options{
		API:       client.API{URL: to.base, Token: string(to.token), HTTPClient: &http.Client{Transport: to.client.Transport}},
		Workspace: r.Workspace, DisableDirect: r.DisableDirect, WaitTimeout: r.Wait, Log: log,
	})
}

// exitError carries the exit code of a remote command.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("the command exited with %d", e.code) }
