package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sync"
	"time"
)

// scenario is one kind of trouble.
type scenario struct {
	name string
	run  func(ctx context.Context, w *world) error
	// long scenarios are not part of the set ci.
	long bool
	// seeded scenarios are run with many seeds, if that is asked for.
	seeded bool
	// clock: the programs are those whose clocks can be changed.
	clock bool
	// root: it needs the rights to mount. alone: it measures, and nothing else may
	// run beside it.
	root, alone bool
	limit       time.Duration // default 5 minutes
	interval    time.Duration // of reports, default the shortest there is
}

// job is a scenario with a seed.
type job struct {
	scenario
	seed uint64
}

// jobs are the scenarios that the flags ask for.
func (o options) jobs() (list []job, err error) {
	only, err := regexp.Compile("^(?:" + o.only + ")$")
	if o.only == "" {
		only, err = regexp.Compile("")
	}
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	for _, s := range scenarios() {
		if !only.MatchString(s.name) || o.set == "ci" && s.long {
			continue
		}
		n := 1
		if s.seeded {
			n = o.seeds
		}
		for i := range n {
			list = append(list, job{s, o.seed + uint64(i)})
		}
	}
	if len(list) == 0 {
		return nil, errors.New("no such scenario")
	}
	return list, nil
}

// runAll runs the jobs, some side by side, and returns their results in order.
func (o options) runAll(ctx context.Context, jobs []job) []*result {
	results := make([]*result, len(jobs))
	for _, alone := range []bool{false, true} {
		slots := o.parallel
		if alone {
			slots = 1
		}
		next := make(chan int)
		var workers sync.WaitGroup
		for range slots {
			workers.Go(func() {
				for i := range next {
					results[i] = o.runOne(ctx, jobs[i])
					fmt.Printf("%-24s seed %d: %s (%.1f s)\n", jobs[i].name, jobs[i].seed, results[i].verdict(), results[i].Seconds)
				}
			})
		}
		for i := range jobs {
			if jobs[i].alone == alone {
				next <- i
			}
		}
		close(next)
		workers.Wait()
	}
	return results
}

func (o options) runOne(ctx context.Context, j job) *result {
	r := &result{Scenario: j.name, Seed: j.seed}
	if j.root && os.Getuid() != 0 && os.Getenv("CI") == "" {
		r.Skipped = "it needs root"
		return r
	}
	limit := j.limit
	if limit == 0 {
		limit = 5 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	err := o.inWorld(ctx, j, r)
	r.Seconds = time.Since(began).Seconds()
	if err != nil {
		r.Error = err.Error()
	}
	if r.good() {
		err = os.RemoveAll(r.Dir)
		r.Dir = ""
		if err != nil {
			r.Error = err.Error()
		}
	}
	return r
}

// inWorld runs a scenario in a world of its own and compares.
func (o options) inWorld(ctx context.Context, j job, r *result) error {
	if j.clock {
		o = o.withClock()
	}
	w, err := newWorld(ctx, o, max(j.interval, interval), r)
	if w != nil {
		r.Dir = w.Dir
	}
	if err != nil {
		return err
	}
	if err = j.run(ctx, w); err == nil {
		err = w.settle(ctx)
	}
	return errors.Join(err, w.end())
}
