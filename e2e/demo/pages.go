package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	agentProm  = "agent.prom"
	serverProm = "server.prom"
)

// page is the samples of a metrics page by their text form.
type page map[string]float64

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return body, err
}

// readPage fetches a page and keeps its text.
func (d *demo) readPage(ctx context.Context, address, file string) (page, error) {
	body, err := get(ctx, "http://"+address+"/metrics")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(d.dir, file), body, 0o644); err != nil {
		return nil, err
	}
	return parsePage(body)
}

// parsePage reads the samples of the families that agents count.
func parsePage(body []byte) (page, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(body)))
	if err != nil {
		return nil, err
	}
	p := make(page)
	for name, f := range families {
		if !strings.HasPrefix(name, "agent_") && !strings.HasPrefix(name, "coderd_agentstats_") && !strings.HasPrefix(name, "worktally_workspace_") {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+strconv.Quote(l.GetValue()))
			}
			slices.Sort(labels)
			key := name + "{" + strings.Join(labels, ",") + "}"
			switch {
			case m.Counter != nil:
				p[key] = m.Counter.GetValue()
			case m.Gauge != nil:
				p[key] = m.Gauge.GetValue()
			case m.Histogram != nil:
				p[key] = float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return p, nil
}

// sum adds the samples of a family whose labels contain all the given texts.
func (p page) sum(name string, labels ...string) (total float64) {
next:
	for key, v := range p {
		if !strings.HasPrefix(key, name+"{") {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(key, l) {
				continue next
			}
		}
		total += v
	}
	return total
}

func (d *demo) pages(ctx context.Context) (agent, server page, err error) {
	if agent, err = d.readPage(ctx, d.agentPage, agentProm); err != nil {
		return nil, nil, err
	}
	server, err = d.readPage(ctx, d.serverPage, serverProm)
	return agent, server, err
}

// printPages prints the agent's families as both pages have them.
func (d *demo) printPages(ctx context.Context) error {
	agent, server, err := d.pages(ctx)
	if err != nil {
		return err
	}
	identity := []string{`agent_name="main",`, `template_name="demo-template",`, `username="admin",`, `workspace_name="demo",`, `,agent_name="main"`,
		`,template_name="demo-template"`, `,username="admin"`, `,workspace_name="demo"`, `workspace_name="demo"`}
	var keys []string
	for key := range agent {
		if server.has(key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	fmt.Printf("%-84s %14s %14s\n", "family (histograms: count)", "agent", "server")
	for _, key := range keys {
		short := key
		for _, l := range identity {
			short = strings.Replace(short, l, "", 1)
		}
		fmt.Printf("%-84s %14s %14s\n", strings.TrimSuffix(short, "{}"), number(agent[key]), number(server[key]))
	}
	return nil
}

func (p page) has(key string) bool {
	_, ok := p[key]
	return ok
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
