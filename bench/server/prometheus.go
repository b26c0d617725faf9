package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/worktally/worktally/bench/report"
)

// realPrometheus has a real Prometheus scrape the page of all agents over
// loopback: the target must be up, every sample taken, none twice or out of order.
func realPrometheus(ctx context.Context, o options) (report.Rows, error) {
	if !o.full {
		return nil, nil
	}
	rows := report.Rows{
		{Name: "scrape_lost", What: "real Prometheus: series that it did not take", Unit: "", Target: 1e-9},
		{Name: "scrape_duplicates", What: "real Prometheus: duplicates, out of order or bounds", Unit: "", Target: 1e-9},
		{Name: "scrape_seconds", What: "real Prometheus: the second scrape", Unit: "s"},
	}
	dir, err := os.MkdirTemp("", "wtbench")
	if err != nil {
		return rows, err
	}
	defer os.RemoveAll(dir)
	target, stop, err := startServe(ctx, o)
	if err != nil {
		return rows, err
	}
	defer stop()
	api, stopPrometheus, err := startPrometheus(ctx, dir, target)
	if err != nil {
		return rows, err
	}
	defer stopPrometheus()
	fmt.Fprintf(o.progress, "a real Prometheus scrapes %s\n", target)
	want := float64(o.agents * len(perAgent()))
	for i := 0; ; i++ {
		n, err := query(ctx, api, `count_over_time(up{job="page"}[10m]) * (min_over_time(up{job="page"}[10m]) == bool 1)`)
		if err == nil && n >= 2 {
			break
		}
		if i > 120 {
			return rows, fmt.Errorf("Prometheus did not scrape twice with up == 1 within 2 minutes (%g, %w)", n, err)
		}
		if err := pause(ctx, time.Second); err != nil {
			return rows, err
		}
	}
	taken, err := query(ctx, api, `min_over_time(scrape_samples_post_metric_relabeling{job="page"}[10m])`)
	if err != nil {
		return rows, err
	}
	seconds, err := query(ctx, api, `scrape_duration_seconds{job="page"}`)
	if err != nil {
		return rows, err
	}
	counted, err := query(ctx, api, `count({agent_name="main"})`)
	if err != nil {
		return rows, err
	}
	bad, err := complaints(ctx, api)
	if err != nil {
		return rows, err
	}
	rows.Set("scrape_lost", max(0, want-min(taken, counted)))
	rows.Set("scrape_duplicates", bad)
	rows.Set("scrape_seconds", seconds)
	return rows, nil
}

// complaints adds up what Prometheus counts of samples that it does not like.
func complaints(ctx context.Context, api string) (sum float64, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	found := 0
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), " ")
		for _, n := range []string{"duplicate_timestamp", "out_of_order", "out_of_bounds"} {
			if name == "prometheus_target_scrapes_sample_"+n+"_total" {
				v, err := strconv.ParseFloat(value, 64)
				if err != nil {
					return 0, err
				}
				sum, found = sum+v, found+1
			}
		}
	}
	if found != 3 {
		return 0, fmt.Errorf("Prometheus has %d of its 3 counters", found)
	}
	return sum, nil
}

// query returns the only value of a query.
func query(ctx context.Context, api, q string) (float64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"/api/v1/query?query="+url.QueryEscape(q), nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, err
	}
	if len(answer.Data.Result) != 1 {
		return 0, fmt.Errorf("%s: %d results", q, len(answer.Data.Result))
	}
	return strconv.ParseFloat(fmt.Sprint(answer.Data.Result[0].Value[1]), 64)
}

const prometheusConfig = `global: {scrape_interval: 20s, scrape_timeout: 20s}
scrape_configs:
  - job_name: page
    static_configs: [{targets: ["%s"]}]
`

func startPrometheus(ctx context.Context, dir, target string) (api string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address := l.Addr().String()
	_ = l.Close() // Prometheus opens it itself
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, prometheusConfig, target), 0o600); err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, "prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=warn")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("start prometheus: %w", err)
	}
	return "http://" + address, func() { end(cmd) }, nil
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
}

// serveContender is the process that serves the page.
const serveContender = "serve"

func startServe(ctx context.Context, o options) (address string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-contender", serveContender, "-agents", fmt.Sprint(o.agents))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		end(cmd)
		return "", nil, fmt.Errorf("the page is not served: %w", err)
	}
	return strings.TrimSpace(line), func() { end(cmd) }, nil
}

// serve serves the page until the context ends, and says where.
func serve(ctx context.Context, o options, stdout io.Writer) error {
	page, err := ourPage(o.agents)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, l.Addr())
	s := &http.Server{Handler: ourHandler(page), ReadHeaderTimeout: time.Second}
	go func() { // ends with the process
		<-ctx.Done()
		_ = s.Close()
	}()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
