package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/worktally/worktally/bench/report"
	"github.com/worktally/worktally/internal/retry"
)

// interval is that of the reports, as by default. steadyTime is long enough for
// each agent to have reported twice.
const (
	interval   = 30 * time.Second
	steadyTime = 75 * time.Second
)

// restart kills the server that all agents are connected with, and starts it
// again.
func restart(ctx context.Context, o options) (report.Rows, error) {
	rows := report.Rows{
		{Name: "restart_seconds", What: fmt.Sprintf("%d agents back after the server was killed", o.connections), Unit: "s", Target: 60},
		{Name: "restart_steady_mb", What: "  memory before", Unit: "MB"},
		{Name: "restart_peak_mb", What: "  most memory since", Unit: "MB"},
		{Name: "restart_peak_ratio", What: "  how much more that is", Unit: "x", Target: 1.5},
	}
	in, all, remove, err := install(ctx, o, o.connections)
	if err != nil {
		return rows, err
	}
	defer remove()
	return rows, measureRestart(ctx, o, in, all, rows)
}

func measureRestart(ctx context.Context, o options, in *installation, all []known, rows report.Rows) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	s, err := in.start(ctx, interval)
	if err != nil {
		return err
	}
	defer func() { s.kill() }()
	k := &keeper{interval: interval}
	fmt.Fprintf(o.progress, "connecting %d agents\n", len(all))
	for _, a := range fleet(in.http, all) {
		wg.Go(func() { k.keep(ctx, a) })
	}
	here := func() bool { return k.up.Load() == int64(len(all)) }
	if err := wait(ctx, "all agents connected", 5*time.Minute, here); err != nil {
		return err
	}
	if err := retry.Sleep(ctx, steadyTime); err != nil {
		return err
	}
	steady, _, err := s.memory()
	if err != nil {
		return err
	}
	fmt.Fprintf(o.progress, "killing the server with %d agents, %d reports\n", k.up.Load(), k.reports.Load())
	established := k.established.Load()
	began := time.Now()
	s.kill()
	next, err := in.start(ctx, interval)
	if err != nil {
		return err
	}
	s = next
	back := func() bool { return k.established.Load() >= established+int64(len(all)) && here() }
	if err := wait(ctx, "all agents back", 5*time.Minute, back); err != nil {
		return err
	}
	took := time.Since(began)
	fmt.Fprintf(o.progress, "all back after %s\n", took.Round(time.Millisecond))
	if err := retry.Sleep(ctx, steadyTime); err != nil {
		return err
	}
	now, peak, err := s.memory()
	if err != nil {
		return err
	}
	fmt.Fprintf(o.progress, "memory %.0f MB now, %d agents, %d reports, %d failures\n", now/1e6, k.up.Load(), k.reports.Load(), k.failed.Load())
	rows.Set("restart_seconds", took.Seconds())
	rows.Set("restart_steady_mb", steady/1e6)
	rows.Set("restart_peak_mb", peak/1e6)
	rows.Set("restart_peak_ratio", peak/steady)
	return nil
}
