package main

import (
	"context"
	"fmt"
	"time"

	"github.com/worktally/worktally/client"
)

// speedtestCmd is "worktally speedtest".
type speedtestCmd struct {
	reach
	Direction string        `name:"direction" short:"d" default:"down" enum:"down,up" help:"Which way: down or up."`
	Time      time.Duration `name:"time" short:"t" default:"5s" help:"For how long."`
}

// Run prints what was moved in which time.
func (c speedtestCmd) Run(p *program) error {
	if c.Time < time.Second || c.Time > time.Minute {
		return usagef("--time must be between 1s and 1m")
	}
	conn, err := c.dial(p.ctx, p)
	if err != nil {
		return err
	}
	defer conn.Close()
	direction := client.Download
	if c.Direction == "up" {
		direction = client.Upload
	}
	s, err := conn.Speedtest(p.ctx, direction, c.Time)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	path := "the path is unknown"
	if ping, err := conn.Ping(ctx); err == nil {
		path = via(ping)
	}
	_, err = fmt.Fprintf(p.stdout, "%s: %.1f Mbit/s (%d bytes in %s, %s)\n", c.Direction, s.MbitPerSecond(), s.Bytes, s.Duration.Round(time.Millisecond), path)
	return err
}
