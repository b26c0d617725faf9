package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/worktally/worktally/tailnet"
)

// pingCmd is "worktally ping".
type pingCmd struct {
	reach
	Count    int           `short:"n" name:"num" default:"4" help:"How many pings."`
	Interval time.Duration `name:"interval" default:"1s" help:"Time between pings."`
	Timeout  time.Duration `name:"timeout" default:"5s" help:"How long to wait for an answer."`
}

// Run prints the path and the latency of each ping.
func (c pingCmd) Run(p *program) error {
	if c.Count < 1 || c.Interval < 0 || c.Timeout <= 0 {
		return usagef("--num, --interval and --timeout must be positive")
	}
	conn, err := c.dial(p.ctx, p)
	if err != nil {
		return err
	}
	defer conn.Close()
	var times []time.Duration
	for i := range c.Count {
		if i > 0 {
			select {
			case <-time.After(c.Interval):
			case <-p.ctx.Done():
				return p.ctx.Err()
			}
		}
		ctx, cancel := context.WithTimeout(p.ctx, c.Timeout)
		r, err := conn.Ping(ctx)
		cancel()
		if err != nil {
			fmt.Fprintf(p.stdout, "no answer: %v\n", err)
			continue
		}
		times = append(times, r.RoundTrip)
		fmt.Fprintf(p.stdout, "pong from %s in %s %s\n", conn.Agent.Name, r.RoundTrip.Round(time.Microsecond), via(r))
	}
	if len(times) == 0 {
		return errors.New("the agent answered no ping")
	}
	slices.Sort(times)
	fmt.Fprintf(p.stdout, "%d of %d answered, median %s\n", len(times), c.Count, times[len(times)/2].Round(time.Microsecond))
	return nil
}

func via(r tailnet.PingResult) string {
	if r.Path == tailnet.PathP2P {
		return "p2p via " + r.Endpoint
	}
	return fmt.Sprintf("derp via region %d", r.Region)
}
