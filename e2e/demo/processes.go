package main

import (
	"context"
	"os"
	"time"

	"github.com/worktally/worktally/e2e/stack"
)

const (
	interval = 2 * time.Second
	// patience is how long anything may take.
	patience = 60 * time.Second
)

// demo is what is running.
type demo struct {
	*stack.Stack
	spec       string
	server     *stack.Server
	agentToken string
	agent      *stack.Agent
	sessions   sessions
}

func newDemo(ctx context.Context, dir, bin, spec string) (*demo, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	s, err := stack.New(ctx, dir, bin)
	if err != nil {
		return nil, err
	}
	s.Env = []string{"DEMO_RUNS=" + s.Path("runs")}
	return &demo{Stack: s, spec: spec}, nil
}

func (d *demo) startServer(ctx context.Context) (err error) {
	d.server, err = d.StartServer(ctx, interval)
	return err
}

func (d *demo) createWorkspace(ctx context.Context) (err error) {
	d.agentToken, err = d.server.Apply(ctx, d.spec)
	return err
}

func (d *demo) startAgent(ctx context.Context) (err error) {
	d.agent, err = d.StartAgent(ctx, "worktally-agent", "http://"+d.server.Address, d.agentToken)
	return err
}

// await tries until it works, and says what was missing if it does not.
func (d *demo) await(ctx context.Context, try func() error) error {
	return stack.Await(ctx, patience, try, d.server.Program, d.agent.Program)
}
