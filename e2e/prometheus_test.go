package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/internal/docs"
	"github.com/worktally/worktally/internal/testtool"
)

func TestPrometheus_ScrapesBothPages(t *testing.T) {
	t.Parallel()
	program := testtool.Find(t, "prometheus")
	w := start(t, ticking)
	agentPage, serverPage := newWitness(t, w.agent.Page), newWitness(t, w.server.Page)
	p := w.startPrometheus(program, map[string]string{"agent": agentPage.address(), "server": serverPage.address()})

	for _, job := range []string{"worktally", "worktally-agent"} {
		p.await(`up{job="`+job+`"} == 1`, 1)
		p.await(`scrape_samples_scraped{job="`+job+`"} > bool 50`, 1)
		p.await(`agent_scripts_executed_total{job="`+job+`",success="true",workspace_name="ws"} > bool 0`, 1)
		p.await(`coderd_agentstats_session_count_ssh{job="`+job+`"}`, 0)
	}
	p.await(`coderd_agents_up{job="worktally",workspace_name="ws"}`, 1)
	h := w.hold()
	p.await(`coderd_agentstats_session_count_ssh{job="worktally"}`, 1)
	p.await(`coderd_agentstats_session_count_ssh{job="worktally-agent"}`, 1)
	h.end(w)
	p.await(`coderd_agentstats_session_count_ssh{job="worktally"}`, 0)
	p.await(`coderd_agentstats_session_count_ssh{job="worktally-agent"}`, 0)
	l := w.startLoad(1)
	p.await(`rate(agent_network_receive_bytes_total{job="worktally",path="tcp"}[10s]) > bool 0`, 1)
	p.await(`sum(rate(worktally_workspace_bytes_total{path="tcp"}[10s])) > bool 0`, 1)
	p.await(`rate(agent_network_transmit_bytes_total{job="worktally-agent",path="tcp"}[10s]) > bool 0`, 1)
	l.stop(w)
	p.checkTargets()

	w.must(w.agent.Stop(patience))
	p.await(`coderd_agents_up{job="worktally",workspace_name="ws"}`, 0)
	p.await(`up{job="worktally"}`, 1)
	p.await(`up{job="worktally-agent"}`, 0)
	p.await(`absent(coderd_agentstats_session_count_ssh{job="worktally"})`, 1)
	p.checkSelf()
	for name, page := range map[string]*witness{"agent": agentPage, "server": serverPage} {
		page.check(t, name)
	}
}

// witness stands between Prometheus and a page and sees what they agree upon.
type witness struct {
	server *httptest.Server
	mu     sync.Mutex
	types  map[string]int // answers by status and content type
}

func newWitness(t *testing.T, page string) *witness {
	w := &witness{types: make(map[string]int)}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: page})
	proxy.ModifyResponse = func(r *http.Response) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.types[r.Status+" "+r.Header.Get("Content-Type")]++
		return nil
	}
	proxy.ErrorHandler = func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) }
	transport := &http.Transport{}
	proxy.Transport = transport
	w.server = httptest.NewServer(proxy)
	t.Cleanup(func() { w.server.Close(); transport.CloseIdleConnections() })
	return w
}

func (w *witness) address() string { return strings.TrimPrefix(w.server.URL, "http://") }

// check: every answer was OpenMetrics.
func (w *witness) check(t *testing.T, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	want := "200 OK application/openmetrics-text; version=1.0.0; charset=utf-8"
	for got, n := range w.types {
		if got != want {
			t.Errorf("the %s's page: %d answers were %q", name, n, got)
		}
	}
	if w.types[want] == 0 {
		t.Errorf("the %s's page: %v, want answers of %q", name, w.types, want)
	}
}

// promServer is a Prometheus that scrapes every second.
type promServer struct {
	*stack.Program
	w       *world
	address string
}

// startPrometheus starts one with the configuration that we ship. Only how often it
// scrapes is ours; whom it scrapes stands in files of its own.
func (w *world) startPrometheus(program string, targets map[string]string) *promServer {
	w.t.Helper()
	shipped, err := os.ReadFile(filepath.Join(docs.Root(w.t), "deploy", "prometheus", "prometheus.yml"))
	w.must(err)
	const interval = "scrape_interval: 15s"
	if strings.Count(string(shipped), interval) != 1 {
		w.t.Fatalf("the shipped configuration does not have %q once", interval)
	}
	config := strings.Replace(string(shipped), interval, "scrape_interval: 1s\n  scrape_timeout: 1s", 1)
	w.must(os.MkdirAll(w.Path("targets"), 0o700))
	for name, target := range targets {
		w.write(filepath.Join("targets", name+".yml"), fmt.Sprintf("- targets: [%q]\n", target))
	}
	address, err := stack.FreeAddress()
	w.must(err)
	p := &promServer{w: w, address: address}
	p.Program, err = w.Start("prometheus", nil, program, "--config.file="+w.write("prometheus.yml", config),
		"--storage.tsdb.path="+w.Path("tsdb"), "--web.listen-address="+address, "--log.level=warn")
	w.must(err)
	w.await(patience, "Prometheus is ready", func(ctx context.Context) error {
		_, err := stack.Get(ctx, "http://"+address+"/-/ready")
		return err
	})
	return p
}

// query asks for a vector with exactly one sample.
func (p *promServer) query(ctx context.Context, query string) (float64, error) {
	body, err := stack.Get(ctx, "http://"+p.address+"/api/v1/query?query="+url.QueryEscape(query))
	if err != nil {
		return 0, err
	}
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, err
	}
	if n := len(answer.Data.Result); n != 1 {
		return 0, fmt.Errorf("%s: %d series: %s", query, n, body)
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(text, 64)
}

func (p *promServer) await(query string, want float64) {
	p.w.t.Helper()
	p.w.await(patience, "Prometheus", func(ctx context.Context) error {
		got, err := p.query(ctx, query)
		if err == nil && got != want {
			err = fmt.Errorf("%s is %v, not %v", query, got, want)
		}
		return err
	})
}

// checkTargets: both are scraped without a complaint, but for a scrape that took too
// long on a slow machine.
func (p *promServer) checkTargets() {
	p.w.t.Helper()
	p.w.await(patience, "both are scraped", func(ctx context.Context) error {
		body, err := stack.Get(ctx, "http://"+p.address+"/api/v1/targets")
		if err != nil {
			return err
		}
		var answer struct {
			Data struct {
				ActiveTargets []struct{ ScrapePool, LastError, Health string }
			}
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return err
		}
		if len(answer.Data.ActiveTargets) != 2 {
			err = fmt.Errorf("targets: %s", body)
		}
		for _, target := range answer.Data.ActiveTargets {
			if target.Health != "up" || target.LastError != "" {
				err = errors.Join(err, fmt.Errorf("target %s is %s: %s", target.ScrapePool, target.Health, target.LastError))
			}
		}
		return err
	})
}

// checkSelf: Prometheus had to throw nothing away.
func (p *promServer) checkSelf() {
	p.w.t.Helper()
	page, err := stack.ReadPage(p.w.t.Context(), p.address)
	p.w.must(err)
	for _, name := range []string{
		"prometheus_target_scrapes_sample_duplicate_timestamp_total", "prometheus_target_scrapes_sample_out_of_order_total",
		"prometheus_target_scrapes_sample_out_of_bounds_total", "prometheus_target_scrapes_exceeded_sample_limit_total",
	} {
		if !page.Has(name) || page.Sum(name) != 0 {
			p.w.t.Errorf("%s is %v (there: %t)", name, page.Sum(name), page.Has(name))
		}
	}
	log, err := os.ReadFile(p.Log)
	p.w.must(err)
	if len(log) > 0 {
		p.w.t.Errorf("Prometheus complains: %s", log)
	}
}
