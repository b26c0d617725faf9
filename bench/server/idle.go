package main

import (
	"context"
	"fmt"
	"time"

	"github.com/worktally/worktally/bench/report"
	"github.com/worktally/worktally/internal/retry"
)

// The agents of the measurement, and how long they are watched: long enough for
// a few pings and collections of garbage.
const (
	idleAgents = 4000
	idleTime   = 40 * time.Second
)

// idle measures what a connected agent costs that says nothing, without and with
// the streams of the tailnet.
func idle(ctx context.Context, o options) (report.Rows, error) {
	rows := report.Rows{
		{Name: "idle_kb", What: "memory for a connected idle agent, RPC only", Unit: "KB", Target: 70, Peer: 164},
		{Name: "idle_streams_kb", What: "  with the streams of the tailnet", Unit: "KB", Peer: 241},
	}
	in, all, remove, err := install(ctx, o, idleAgents)
	if err != nil {
		return rows, err
	}
	defer remove()
	for i, streams := range []bool{false, true} {
		each, err := idleMemory(ctx, o, in, all, streams)
		if err != nil {
			return rows, fmt.Errorf("idle agents: %w", err)
		}
		rows.Set(rows[i].Name, each/1e3)
	}
	return rows, nil
}

func idleMemory(ctx context.Context, o options, in *installation, of []known, streams bool) (float64, error) {
	fmt.Fprintf(o.progress, "measuring %d idle agents, tailnet %v\n", len(of), streams)
	s, err := in.start(ctx, time.Hour)
	if err != nil {
		return 0, err
	}
	closeAll := func() {}
	defer func() { s.kill(); closeAll() }() // who is closed first waits for the other
	before, _, err := s.memory()
	if err != nil {
		return 0, err
	}
	agents := fleet(in.http, of)
	for _, a := range agents {
		a.streams = streams
	}
	if _, closeAll, err = openAll(ctx, agents); err != nil {
		return 0, err
	}
	if err := retry.Sleep(ctx, idleTime); err != nil {
		return 0, err
	}
	after, _, err := s.memory()
	return (after - before) / float64(len(of)), err
}
