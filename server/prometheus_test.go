package server

import (
	"encoding/json"
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
	"testing"

	"github.com/worktally/worktally/internal/freeport"
	"github.com/worktally/worktally/internal/testtool"
)

// scrapedByPrometheus has a real Prometheus scrape a page in every format that it
// asks for, several times: none may fail, and it must like every sample. One that takes
// too long on a machine that is busy says nothing.
func scrapedByPrometheus(t *testing.T, page string) {
	program := testtool.Find(t, "prometheus")
	for name, flags := range map[string][]string{"openmetrics": nil, "protobuf": {"--enable-feature=native-histograms"}} {
		t.Run(name, func(t *testing.T) {
			port, err := freeport.Get()
			must(t, err)
			address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
			dir := t.TempDir()
			config := filepath.Join(dir, "prometheus.yml")
			must(t, os.WriteFile(config, fmt.Appendf(nil, "global: {scrape_interval: 300ms, scrape_timeout: 300ms}\n"+
				"scrape_configs:\n  - {job_name: page, static_configs: [{targets: [%q]}]}\n", page), 0o600))
			cmd := exec.Command(program, append(flags, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
				"--web.listen-address="+address, "--log.level=debug")...)
			var log testtool.Buffer
			cmd.Stderr = &log
			must(t, cmd.Start())
			defer func() {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				_ = cmd.Wait()
			}()
			poll(t, "five good scrapes", func() bool { return query(address, `sum_over_time(up[1m])`) >= 5 })
			for _, counter := range []string{"duplicate_timestamp", "out_of_order", "out_of_bounds"} {
				_, body, err := fetch("http://" + address + "/metrics")
				must(t, err)
				if !strings.Contains(body, "\nprometheus_target_scrapes_sample_"+counter+"_total 0\n") {
					t.Errorf("Prometheus counted %s samples", counter)
				}
			}
			if lost := query(address, `max_over_time(scrape_samples_scraped[1m]) - max_over_time(scrape_samples_post_metric_relabeling[1m])`); lost != 0 {
				t.Errorf("%g samples were lost", lost)
			}
			for _, series := range []string{`agent_scripts_executed_total{workspace_name="bystander",success="true"}`, `agent_scripts_executed_total{workspace_name="villain",success="true"}`} {
				if v := query(address, series); v < 5 {
					t.Errorf("%s is %g", series, v)
				}
			}
			for line := range strings.Lines(log.String()) {
				if complaint(line) {
					t.Errorf("Prometheus complains: %s", line)
				}
			}
		})
	}
}

// complaint says whether a line of Prometheus's log is one about a scrape. Of what failed
// it tells at level debug.
func complaint(line string) bool {
	if strings.Contains(line, "Append failed") || strings.Contains(line, "Scrape failed") {
		return !strings.Contains(line, "deadline exceeded")
	}
	quiet := strings.Contains(line, "level=debug") || strings.Contains(line, "level=info")
	return strings.Contains(line, "scrape") && !quiet
}

// query returns the only value of a query, -1 if there is none.
func query(address, q string) float64 {
	_, body, err := fetch("http://" + address + "/api/v1/query?query=" + url.QueryEscape(q))
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err != nil || json.Unmarshal([]byte(body), &answer) != nil || len(answer.Data.Result) != 1 {
		return -1
	}
	v, err := strconv.ParseFloat(fmt.Sprint(answer.Data.Result[0].Value[1]), 64)
	if err != nil {
		return -1
	}
	return v
}

func fetch(url string) (status int, body string, err error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	req.Close = true // so that no goroutine is left
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}
