// Command agent measures worktally-agent on this machine and compares the numbers
// with the limits that it has to hold: a table for people, a JSON file for
// programs.
//
// Server, agent, client and, for comparison, OpenSSH's server run on loopback from
// one configuration, which is printed. It is no test: a busy machine gives other
// numbers, and the exit code says only whether it could measure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/worktally/worktally/bench/proc"
	"github.com/worktally/worktally/bench/report"
	"github.com/worktally/worktally/e2e/stack"
)

// options is how much is measured.
type options struct {
	bin, out string
	idle     time.Duration
	rounds   int
	total    int64 // bytes over the tailnet before memory is looked at
	patience time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "../bin", "directory with the two programs")
	flag.StringVar(&o.out, "out", "out/agent.json", "where the JSON goes")
	flag.DurationVar(&o.idle, "idle", time.Minute, "how long the idle agent is watched")
	flag.IntVar(&o.rounds, "rounds", 3, "transfers of each kind, and starts; the median counts")
	flag.Int64Var(&o.total, "traffic", 8e9, "bytes to move before memory is looked at")
	flag.DurationVar(&o.patience, "patience", 100*time.Second, "how long that may take beside the measured transfers; then it is less")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "wtbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := stack.New(ctx, dir+"/s", o.bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	b := &bench{o: o, s: s, progress: stderr, rows: limits()}
	if err := b.measure(ctx); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Configuration: %s/%s, %d CPUs, load %s before and %s after; server, agent and client on loopback, plain HTTP, own relay;\n"+
		"default flags, reports every 30 s; one workspace without scripts, apps and metadata; transfers: median of %d; %.1f GB in all.\n\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), b.loadBefore, proc.Load(), o.rounds, float64(b.moved)/1e9)
	report.WriteTable(stdout, b.rows, "STOCK AGENT")
	return report.WriteJSON(o.out, b.rows)
}
