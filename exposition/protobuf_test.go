package exposition

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// decode reads a protobuf page.
func decode(t *testing.T, page []byte) (families []*dto.MetricFamily) {
	t.Helper()
	d := expfmt.NewDecoder(bytes.NewReader(page), expfmt.NewFormat(expfmt.TypeProtoDelim))
	for {
		var mf dto.MetricFamily
		err := d.Decode(&mf)
		if errors.Is(err, io.EOF) {
			return families
		}
		must(t, err)
		families = append(families, &mf)
	}
}

// TestProtobuf_IsWhatTheTextIs compares the families of both formats.
func TestProtobuf_IsWhatTheTextIs(t *testing.T) {
	page := samplePage(t)
	var err error
	page.Gathered, err = NewRuntimeRegistry().Gather()
	must(t, err)
	p := expfmt.NewTextParser(model.LegacyValidation)
	text, err := p.TextToMetricFamilies(bytes.NewReader(render(t, page, Text)))
	must(t, err)
	families := decode(t, render(t, page, Protobuf))
	if diff := cmp.Diff(flatten(slices.Collect(maps.Values(text))), flatten(families)); diff != "" {
		t.Errorf("families (-text +protobuf):\n%s", diff)
	}
	for _, mf := range families {
		if len(mf.GetMetric()) == 0 {
			t.Errorf("%s has no metrics, which this format does not allow", mf.GetName())
		}
	}
	if len(families) < 30 {
		t.Errorf("only %d families", len(families))
	}
}

// TestProtobuf_PassesNativeHistogramsOn: the other formats show their classic
// buckets.
func TestProtobuf_PassesNativeHistogramsOn(t *testing.T) {
	registry := prometheus.NewRegistry()
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "native_seconds", Help: "Help.", Buckets: []float64{1, 10}, NativeHistogramBucketFactor: 1.1})
	registry.MustRegister(h)
	for _, v := range []float64{0.5, 5, 5.5, 50} {
		h.Observe(v)
	}
	gathered, err := registry.Gather()
	must(t, err)
	page := Page{Table: NewTable(), Gathered: gathered}
	families := decode(t, render(t, page, Protobuf))
	if len(families) != 1 {
		t.Fatalf("%d families", len(families))
	}
	got := families[0].GetMetric()[0].GetHistogram()
	if diff := cmp.Diff(gathered[0].String(), families[0].String()); diff != "" || len(got.GetPositiveSpan()) == 0 || got.Schema == nil {
		t.Errorf("the native histogram (-gathered +page):\n%s", diff)
	}
	for _, f := range []Format{Text, OpenMetrics} {
		text := string(render(t, page, f))
		for _, line := range []string{`native_seconds_bucket{le="1.0"} 1`, `native_seconds_bucket{le="10.0"} 3`, `native_seconds_bucket{le="+Inf"} 4`, "native_seconds_sum 61", "native_seconds_count 4"} {
			if !strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("format %d: %q is missing", f, line)
			}
		}
	}
}

// TestPage_OneHelpAndTypeForAName: a registry that has a family of the table's
// name cannot bring a second HELP or TYPE.
func TestPage_OneHelpAndTypeForAName(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "agent_scripts_executed_total", Help: "Another."}, func() float64 { return 99 }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fine", Help: "Odd \\ \n \" \xff help."}, func() float64 { return math.NaN() }),
	)
	gathered, err := registry.Gather()
	must(t, err)
	page := samplePage(t)
	page.Gathered = gathered
	for _, f := range []Format{Text, OpenMetrics, Protobuf} {
		text := string(render(t, page, f))
		if strings.Contains(text, "Another.") {
			t.Errorf("format %d: two helps for one name", f)
		}
		if !strings.Contains(text, "fine") {
			t.Errorf("format %d: the other family is missing", f)
		}
	}
	for _, f := range []Format{Text, OpenMetrics} {
		seen := make(map[string]bool)
		for line := range strings.Lines(string(render(t, page, f))) {
			if strings.HasPrefix(line, "# ") && line != "# EOF\n" {
				what := strings.Join(strings.Fields(line)[:3], " ")
				if seen[what] {
					t.Errorf("format %d: %s twice", f, what)
				}
				seen[what] = true
			}
		}
	}
}
