package stack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Page is the samples of a metrics page by their text form, labels sorted:
// name{label="value",...}. A histogram stands there with its count.
type Page map[string]float64

// requestLimit bounds a request to a program on this machine.
const requestLimit = 10 * time.Second

// Get fetches a page; anything but 200 is an error.
func Get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Close = true // the next request may go to another process
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// ReadPage fetches and parses a metrics page.
func ReadPage(ctx context.Context, address string) (Page, error) {
	return ReadPath(ctx, address, "/metrics")
}

// ReadPath fetches and parses a part of a metrics page.
func ReadPath(ctx context.Context, address, path string) (Page, error) {
	body, err := Get(ctx, "http://"+address+path)
	if err != nil {
		return nil, err
	}
	return ParsePage(body)
}

// ParsePage reads a page in the text format.
func ParsePage(body []byte) (Page, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	p := make(Page)
	for name, f := range families {
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

// Has says whether the family has a sample whose labels contain all the given
// texts.
func (p Page) Has(name string, labels ...string) bool {
	_, n := p.find(name, labels)
	return n > 0
}

// Sum adds the samples of a family whose labels contain all the given texts.
func (p Page) Sum(name string, labels ...string) float64 {
	total, _ := p.find(name, labels)
	return total
}

func (p Page) find(name string, labels []string) (total float64, n int) {
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
		n++
	}
	return total, n
}
