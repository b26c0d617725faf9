package exposition

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// TestCollector_ShowsWhatThePageShows compares the families of a registry with
// those that a parser reads from the page: names, types, help, labels, values,
// and histograms put together.
func TestCollector_ShowsWhatThePageShows(t *testing.T) {
	page := samplePage(t)
	registry := prometheus.NewRegistry()
	must(t, registry.Register(NewCollector(func() Page { return page })))
	got, err := registry.Gather()
	must(t, err)
	p := expfmt.NewTextParser(model.LegacyValidation)
	parsed, err := p.TextToMetricFamilies(bytes.NewReader(render(t, page, Text)))
	must(t, err)
	if diff := cmp.Diff(flatten(slices.Collect(maps.Values(parsed))), flatten(got)); diff != "" {
		t.Errorf("families (-page +registry):\n%s", diff)
	}
	if len(flatten(got)) < 10 {
		t.Errorf("only %d series", len(flatten(got)))
	}
}

// flatten writes each series with all that belongs to it as a line.
func flatten(families []*dto.MetricFamily) []string {
	var lines []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+strconv.Quote(l.GetValue()))
			}
			slices.Sort(labels)
			value := fmt.Sprint(m.GetCounter().GetValue(), m.GetGauge().GetValue())
			if h := m.GetHistogram(); h != nil {
				value = fmt.Sprint(h.GetSampleCount(), h.GetSampleSum())
				for _, b := range h.GetBucket() {
					if !math.IsInf(b.GetUpperBound(), 1) { // which one side leaves out
						value += fmt.Sprint(" ", b.GetUpperBound(), ":", b.GetCumulativeCount())
					}
				}
			}
			lines = append(lines, fmt.Sprint(f.GetName(), labels, f.GetType(), " ", f.GetHelp(), " ", value))
		}
	}
	slices.Sort(lines)
	return lines
}

// TestCollector_CanBeTakenBack: a registry is left as it was, and takes one
// collector of a kind unless they are told apart by a label.
func TestCollector_CanBeTakenBack(t *testing.T) {
	page := samplePage(t)
	source := func() Page { return page }
	registry := prometheus.NewRegistry()
	first, second := NewCollector(source), NewCollector(source)
	must(t, registry.Register(first))
	if err := registry.Register(second); err == nil {
		t.Error("two of a kind were taken")
	}
	if !registry.Unregister(first) {
		t.Error("it cannot be taken back")
	}
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("%d families are left, %v", len(families), err)
	}
	registry = prometheus.NewRegistry()
	for i, c := range []prometheus.Collector{first, second} {
		must(t, prometheus.WrapRegistererWith(prometheus.Labels{"place": string(rune('a' + i))}, registry).Register(c))
	}
	families, err := registry.Gather()
	must(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == "place" }) {
				t.Errorf("%s: %v", f.GetName(), m)
			}
		}
	}
	if len(families) == 0 {
		t.Error("no families")
	}
}
