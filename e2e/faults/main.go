// Command faults proves that nothing is lost and nothing doubled: it runs the real
// programs, brings one kind of trouble over them in each scenario, and compares
// every total with a model of what was done. It prints a table, writes a JSON
// file, and exits 1 if a single count is wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:])) }

// options are the flags.
type options struct {
	set, only, bin, out string
	seed                uint64
	seeds               int
	kills, parallel     int
	crowdTime           time.Duration
	// starting is held while a program looks for free ports and takes them, because
	// another world would find the same.
	starting *sync.Mutex
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("faults", flag.ContinueOnError)
	f.StringVar(&o.set, "set", "ci", "which scenarios: ci, or long for all")
	f.StringVar(&o.only, "only", "", "only the scenarios whose names match this pattern")
	f.StringVar(&o.bin, "bin", "bin", "where the two programs are")
	f.StringVar(&o.out, "out", "bench/out/faults.json", "where the results go")
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "what is random follows from it")
	f.IntVar(&o.seeds, "seeds", 1, "run each kill scenario with that many seeds, from -seed on")
	f.IntVar(&o.kills, "kills", 4, "how many times each kill scenario kills")
	f.IntVar(&o.parallel, "parallel", 4, "how many scenarios run side by side")
	f.DurationVar(&o.crowdTime, "crowd-time", 10*time.Minute, "how long the crowd stays")
	o.starting = new(sync.Mutex)
	err = f.Parse(args)
	return o, err
}

func run(args []string) int {
	o, err := parse(args)
	if err != nil {
		return 2
	}
	jobs, err := o.jobs()
	if err != nil {
		fmt.Fprintf(os.Stderr, "faults: %v\n", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	began := time.Now()
	results := o.runAll(ctx, jobs)
	writeTable(os.Stdout, results, o.kills)
	err = errors.Join(ctx.Err(), writeJSON(o.out, results))
	bad := 0
	for _, r := range results {
		if r.Skipped == "" && !r.good() {
			bad++
		}
	}
	fmt.Printf("\n%d scenarios in %.0f s, %d not exact; %s\n", len(results), time.Since(began).Seconds(), bad, o.out)
	if err != nil {
		fmt.Fprintf(os.Stderr, "faults: %v\n", err)
	}
	if bad > 0 || err != nil {
		return 1
	}
	return 0
}
