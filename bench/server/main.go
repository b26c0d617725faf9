// Command server measures worktally's server on this machine and compares the
// numbers with the limits that it has to hold and with what others need for the
// same, in one run: a table for people, a JSON file for programs.
//
// Each group of figures is a file with a function in groups. Whatever is compared
// runs in a process of its own, one after the other, so that the heap of one does
// not slow another down. It is no test: a busy machine gives other numbers, and
// the exit code says only whether it could measure.
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
	"slices"
	"syscall"

	"github.com/worktally/worktally/bench/proc"
	"github.com/worktally/worktally/bench/report"
)

// options is how much is measured.
type options struct {
	out    string
	bin    string
	agents int
	// connections are the agents that are connected at once.
	connections int
	rounds      int
	only        string // a group's name; "" is all
	full        bool
	// contender is set in the processes that the program starts of itself.
	contender string
	progress  io.Writer
}

// group measures a part of the table. It returns what it has, even if it fails.
type group struct {
	name    string
	measure func(context.Context, options) (report.Rows, error)
}

func groups() []group {
	return []group{{"page", exposition}, {"ingest", ingest}, {"idle", idle}, {"restart", restart}, {"prometheus", realPrometheus}}
}

func main() {
	o := options{progress: os.Stderr}
	flag.StringVar(&o.out, "out", "out/server.json", "where the JSON goes")
	flag.StringVar(&o.bin, "bin", "../bin", "directory with the server's program")
	flag.IntVar(&o.connections, "connections", 15_000, "agents that are connected; each needs a descriptor")
	flag.IntVar(&o.agents, "agents", 100_000, "agents on the page")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each is measured; the median counts")
	flag.BoolVar(&o.full, "full", false, "also what takes long: a real Prometheus")
	flag.StringVar(&o.only, "only", "", "measure one group alone: page, ingest, idle, restart or prometheus")
	flag.StringVar(&o.contender, "contender", "", "for the program's own use")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, stdout io.Writer) error {
	if o.only != "" && !slices.ContainsFunc(groups(), func(g group) bool { return g.name == o.only }) {
		return fmt.Errorf("-only %q is none of the groups", o.only)
	}
	if o.contender != "" {
		return contend(ctx, o, stdout)
	}
	before := proc.Load()
	var rows report.Rows
	var errs []error
	for _, g := range groups() {
		if o.only != "" && o.only != g.name {
			continue
		}
		more, err := g.measure(ctx, o)
		rows, errs = append(rows, more...), append(errs, err)
	}
	fmt.Fprintf(stdout, "Configuration: %s/%s, %d CPUs, %s, load %s before and %s after; %d agents; median of %d.\n\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), before, proc.Load(), o.agents, o.rounds)
	report.WriteTable(stdout, rows, "OTHERS")
	return errors.Join(append(errs, report.WriteJSON(o.out, rows))...)
}
