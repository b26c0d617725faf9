package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/worktally/worktally/bench/report"
)

// reporters is how many agents report at once, each as soon as its last report
// was acknowledged.
const reporters = 256

// lap is how long a part of the measurement takes.
const lap = 5 * time.Second

// ingest measures reports, without and with scrapes. The page has all agents.
func ingest(ctx context.Context, o options) (report.Rows, error) {
	rows := report.Rows{
		{Name: "ingest_us", What: "CPU for a report of 3 KB, decode to committed", Unit: "us", Target: 150, Peer: 3500},
		{Name: "ingest_reports", What: "  reports taken in a second", Unit: "1/s"},
		{Name: "ingest_p99_ms", What: "  99th percentile of the call", Unit: "ms"},
		{Name: "ingest_scraped_p99_ms", What: "  the same while the page is scraped", Unit: "ms"},
		{Name: "ingest_scraped_ratio", What: "  how much longer that is", Unit: "x", Target: 2},
		{Name: "ingest_scraped_mb", What: "  size of that page", Unit: "MB"},
	}
	in, all, remove, err := install(ctx, o, o.connections)
	if err != nil {
		return rows, err
	}
	defer remove()
	s, err := in.start(ctx, 10*time.Minute)
	if err != nil {
		return rows, err
	}
	defer s.kill()
	return rows, measureIngest(ctx, o, s, fleet(in.http, all), rows)
}

func measureIngest(ctx context.Context, o options, s *server, agents []*agent, rows report.Rows) error {
	fmt.Fprintf(o.progress, "filling the page with %d agents\n", len(agents))
	if err := reportOnce(ctx, agents); err != nil {
		return fmt.Errorf("fill the page: %w", err)
	}
	agents = agents[:min(reporters, len(agents))]
	sessions, closeAll, err := openAll(ctx, agents)
	if err != nil {
		return err
	}
	defer closeAll()
	fmt.Fprintf(o.progress, "measuring reports of %d agents\n", len(agents))
	if _, err := reportFor(ctx, agents, sessions, lap); err != nil { // everything is warm
		return err
	}
	var cpu, rate, quiet, scraped, ratio []float64
	for range o.rounds {
		before, err := s.cpuSeconds()
		if err != nil {
			return err
		}
		without, err := reportFor(ctx, agents, sessions, lap)
		if err != nil {
			return err
		}
		after, err := s.cpuSeconds()
		if err != nil {
			return err
		}
		with, size, err := reportScraped(ctx, s, agents, sessions)
		if err != nil {
			return err
		}
		n := float64(len(without))
		cpu, rate = append(cpu, (after-before)/n*1e6), append(rate, n/lap.Seconds())
		q, w := milliseconds(p99(without)), milliseconds(p99(with))
		quiet, scraped, ratio = append(quiet, q), append(scraped, w), append(ratio, w/q)
		rows.Set("ingest_scraped_mb", float64(size)/1e6)
	}
	rows.Set("ingest_us", report.Median(cpu))
	rows.Set("ingest_reports", report.Median(rate))
	rows.Set("ingest_p99_ms", report.Median(quiet))
	rows.Set("ingest_scraped_p99_ms", report.Median(scraped))
	rows.Set("ingest_scraped_ratio", report.Median(ratio))
	return nil
}

// reportOnce has every agent connect, report and go.
func reportOnce(ctx context.Context, agents []*agent) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for _, a := range agents {
		g.Go(func() error {
			s, err := a.open(ctx)
			if err != nil {
				return err
			}
			defer s.conn.Close()
			return a.report(ctx, s)
		})
	}
	return g.Wait()
}

// reportFor has the agents report again and again, and returns how long the calls
// took.
func reportFor(ctx context.Context, agents []*agent, sessions []*session, d time.Duration) ([]time.Duration, error) {
	until := time.Now().Add(d)
	var mu sync.Mutex // guards took
	var took []time.Duration
	g, ctx := errgroup.WithContext(ctx)
	for i, a := range agents {
		g.Go(func() error {
			var mine []time.Duration
			for now := time.Now(); now.Before(until); {
				if err := a.report(ctx, sessions[i]); err != nil {
					return err
				}
				next := time.Now()
				mine, now = append(mine, next.Sub(now)), next
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
			return nil
		})
	}
	return took, g.Wait()
}

// reportScraped does the same while the page is scraped, one scrape after the
// other. It returns the size of the page.
func reportScraped(ctx context.Context, s *server, agents []*agent, sessions []*session) (took []time.Duration, size int64, err error) {
	scraping, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	g.Go(func() error {
		for scraping.Err() == nil {
			n, err := s.scrape(scraping)
			if err != nil && scraping.Err() == nil {
				return err
			}
			size = max(size, n)
		}
		return nil
	})
	took, err = reportFor(ctx, agents, sessions, lap)
	stop()
	if errScrape := g.Wait(); err == nil {
		err = errScrape
	}
	return took, size, err
}

func p99(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)*99/100]
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }
