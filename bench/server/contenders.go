package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	ours "github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/coding"
)

// What scrapers ask for.
const (
	textAccept  = "text/plain;version=0.0.4"
	openAccept  = "application/openmetrics-text;version=1.0.0"
	protoAccept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// exposer builds something and returns what exposes it.
type exposer func(o options) (func() (int, error), error)

func contenders() map[string]exposer {
	return map[string]exposer{
		"memcpy":                memcpy,
		"text":                  byUs(textAccept, "identity"),
		"openmetrics":           byUs(openAccept, "identity"),
		"protobuf":              byUs(protoAccept, "identity"),
		"text-gzip":             byUs(textAccept, "gzip"),
		"openmetrics-gzip":      byUs(openAccept, "gzip"),
		"text-zstd":             byUs(textAccept, "zstd"),
		"whole-page":            wholePage,
		"collector":             byCollector(textAccept, "identity"),
		"collector-gzip":        byCollector(textAccept, "gzip"),
		"collector-openmetrics": byCollector(openAccept, "identity"),
		"gauge-vec":             byVectors,
		"victoria":              byVictoria,
	}
}

// contend measures one contender and prints the result.
func contend(ctx context.Context, o options, stdout io.Writer) error {
	if o.contender == serveContender {
		return serve(ctx, o, stdout)
	}
	build := contenders()[o.contender]
	if build == nil {
		return fmt.Errorf("no contender %q", o.contender)
	}
	r, err := measure(o.rounds, func() (func() (int, error), error) { return build(o) })
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(r)
}

// memcpy copies the bytes of the text page.
func memcpy(o options) (func() (int, error), error) {
	page, err := ourPage(o.agents)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := page.Write(&text, ours.Text); err != nil {
		return nil, err
	}
	to := make([]byte, text.Len())
	return func() (int, error) { return copy(to, text.Bytes()), nil }, nil
}

func ourHandler(page ours.Page) http.Handler {
	return ours.NewHandler(ours.HandlerOptions{
		Page: func() ours.Page { return page }, Registry: prometheus.NewRegistry(), Codings: coding.All(), Parts: true,
	})
}

func byUs(accept, encoding string) exposer {
	return func(o options) (func() (int, error), error) {
		page, err := ourPage(o.agents)
		h := ourHandler(page)
		return func() (int, error) { return get(h, accept, encoding) }, err
	}
}

// collector offers the same series the way that client_golang's documentation
// shows: constant metrics.
type collector struct {
	agents int
	descs  []*prometheus.Desc
}

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	all := perAgent()
	for i := range c.agents {
		id := identity(i)
		for j, s := range all {
			kind := prometheus.GaugeValue
			if s.counter {
				kind = prometheus.CounterValue
			}
			ch <- prometheus.MustNewConstMetric(c.descs[j], kind, s.value(i), s.labelValues(id)...)
		}
	}
}

func byCollector(accept, encoding string) exposer {
	return func(o options) (func() (int, error), error) {
		c := collector{agents: o.agents}
		for _, s := range perAgent() {
			c.descs = append(c.descs, prometheus.NewDesc(s.name, "Help.", s.labelNames(), nil))
		}
		registry := prometheus.NewRegistry()
		if err := registry.Register(c); err != nil {
			return nil, err
		}
		h := promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
		return func() (int, error) { return get(h, accept, encoding) }, nil
	}
}

// byVectors keeps the series in vectors of gauges, as most programs do.
func byVectors(o options) (func() (int, error), error) {
	registry := prometheus.NewRegistry()
	for _, s := range perAgent() {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: s.name, Help: "Help."}, s.labelNames())
		if err := registry.Register(v); err != nil {
			return nil, err
		}
		for i := range o.agents {
			v.WithLabelValues(s.labelValues(identity(i))...).Set(s.value(i))
		}
	}
	h := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return func() (int, error) { return get(h, textAccept, "identity") }, nil
}

func byVictoria(o options) (func() (int, error), error) {
	set := metrics.NewSet()
	for i := range o.agents {
		id := identity(i)
		for _, s := range perAgent() {
			var pairs []string
			values := s.labelValues(id)
			for j, name := range s.labelNames() {
				pairs = append(pairs, fmt.Sprintf("%s=%q", name, values[j]))
			}
			set.NewFloatCounter(s.name + "{" + strings.Join(pairs, ",") + "}").Set(s.value(i))
		}
	}
	return func() (int, error) {
		s := &sink{}
		set.WritePrometheus(s)
		return s.n, nil
	}, nil
}
