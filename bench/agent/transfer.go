package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"github.com/worktally/worktally/bench/proc"
	"github.com/worktally/worktally/bench/report"
)

const gib = 1 << 30

// The sizes of the measured transfers: CPU is computed for a GiB.
const (
	directSize = gib / 2
	relaySize  = gib / 8
)

// transfers measures what bytes cost; sshd moves the same ones in the same minutes,
// because what the machine gives changes.
func (b *bench) transfers(ctx context.Context) error {
	sshd, err := b.startSSHD(ctx)
	if errors.Is(err, exec.ErrNotFound) {
		b.say("no comparison with sshd: %v", err)
	} else if err != nil {
		return err
	}
	var down, up, relay, theirs []float64
	for range b.o.rounds {
		for _, t := range []struct {
			all  *[]float64
			cost func() (float64, error)
		}{
			{&down, func() (float64, error) {
				return b.cost(directSize, func() error { return b.download(ctx, directSize) })
			}},
			{&theirs, func() (float64, error) { return sshd.cost(ctx, directSize) }},
			{&up, func() (float64, error) { return b.cost(directSize, func() error { return b.upload(ctx, directSize) }) }},
			{&relay, func() (float64, error) {
				return b.cost(relaySize, func() error { return b.download(ctx, relaySize, "--disable-direct-connections") })
			}},
		} {
			if sshd == nil && t.all == &theirs {
				continue
			}
			cost, err := t.cost()
			if err != nil {
				return err
			}
			*t.all = append(*t.all, cost)
		}
	}
	b.say("CPU seconds per GiB: down %.2f, sshd down %.2f, up %.2f, relay down %.2f", down, theirs, up, relay)
	b.rows.Set(downCPU, report.Median(down))
	b.rows.Set(upCPU, report.Median(up))
	b.rows.Set(relayCPU, report.Median(relay))
	if len(theirs) > 0 {
		b.rows.Set(downRatio, report.Median(down)/report.Median(theirs))
	}
	return nil
}

// cost is the agent's CPU time for a GiB.
func (b *bench) cost(size int64, transfer func() error) (float64, error) {
	before, err := proc.CPUSeconds(b.agent.PID())
	if err != nil {
		return 0, err
	}
	if err := transfer(); err != nil {
		return 0, err
	}
	after, err := proc.CPUSeconds(b.agent.PID())
	return (after - before) * gib / float64(size), err
}

func (b *bench) download(ctx context.Context, size int64, flags ...string) error {
	cmd := b.server.Command(ctx, append(append([]string{"ssh"}, flags...), workspace, "--", zeros(size))...)
	var n counter
	cmd.Stdout = &n
	if err := cmd.Run(); err != nil || int64(n) != size {
		return fmt.Errorf("download: %d of %d bytes: %v", n, size, err)
	}
	b.moved += size
	return nil
}

func (b *bench) upload(ctx context.Context, size int64) error {
	cmd := b.server.Command(ctx, "ssh", workspace, "--", "wc -c")
	cmd.Stdin = io.LimitReader(zeroReader{}, size)
	out, err := cmd.Output()
	if err != nil || string(out) != fmt.Sprintln(size) {
		return fmt.Errorf("upload: %q of %d bytes: %v", out, size, err)
	}
	b.moved += size
	return nil
}

// zeros is the command that prints so many bytes.
func zeros(size int64) string { return fmt.Sprintf("head -c %d /dev/zero", size) }

// traffic moves what is missing to the total, both ways in turn, and looks at the
// memory.
func (b *bench) traffic(ctx context.Context) error {
	b.say("%.1f GB are moved; more follows", float64(b.moved)/1e9)
	end := time.Now().Add(b.o.patience)
	for b.moved < b.o.total && time.Now().Before(end) {
		if err := errors.Join(b.download(ctx, gib/2), b.upload(ctx, gib/4)); err != nil {
			return err
		}
	}
	now, most, err := proc.Memory(b.agent.PID())
	if err != nil {
		return err
	}
	b.say("after %.1f GB: %.1f MB resident, at most %.1f MB", float64(b.moved)/1e9, now/1e6, most/1e6)
	b.rows.Set(trafficRSS, now/1e6)
	return nil
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
