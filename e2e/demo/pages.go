package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/worktally/worktally/e2e/stack"
)

const (
	agentProm  = "agent.prom"
	serverProm = "server.prom"
)

// readPage fetches a page and keeps its text.
func (d *demo) readPage(ctx context.Context, address, file string) (stack.Page, error) {
	body, err := stack.Get(ctx, "http://"+address+"/metrics")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(d.Path(file), body, 0o644); err != nil {
		return nil, err
	}
	return stack.ParsePage(body)
}

func (d *demo) pages(ctx context.Context) (agent, server stack.Page, err error) {
	if agent, err = d.readPage(ctx, d.agent.Page, agentProm); err != nil {
		return nil, nil, err
	}
	server, err = d.readPage(ctx, d.server.Page, serverProm)
	return agent, server, err
}

// printPages prints the agent's families as both pages have them.
func (d *demo) printPages(ctx context.Context) error {
	agent, server, err := d.pages(ctx)
	if err != nil {
		return err
	}
	identity := []string{`agent_name="main",`, `template_name="demo-template",`, `username="admin",`, `workspace_name="demo",`, `,agent_name="main"`,
		`,template_name="demo-template"`, `,username="admin"`, `,workspace_name="demo"`, `workspace_name="demo"`, `template_name="demo-template"`}
	var keys []string
	for key := range agent {
		_, both := server[key]
		zero := agent[key] == 0 && server[key] == 0
		if both && (strings.HasPrefix(key, "agent_") && !zero || strings.HasPrefix(key, "coderd_agentstats_")) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	fmt.Printf("%-84s %14s %14s\n", "family (histograms: count)", "agent", "server")
	for _, key := range keys {
		short := key
		for _, l := range identity {
			short = strings.Replace(short, l, "", 1)
		}
		fmt.Printf("%-84s %14s %14s\n", strings.TrimSuffix(short, "{}"), number(agent[key]), number(server[key]))
	}
	fmt.Println("(other series of agent_* are 0 on both pages)")
	return nil
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
