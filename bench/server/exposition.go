package main

import (
	"context"
	"errors"

	"github.com/worktally/worktally/bench/report"
)

// exposition compares what it costs to expose the series of all agents. The
// limits of ratios hold for this run; those in milliseconds are for two cores like
// those on which they were set.
func exposition(ctx context.Context, o options) (report.Rows, error) {
	rows := report.Rows{
		{Name: "expose_bytes", What: "text page of 12 series an agent", Unit: "MB"},
		{Name: "expose_memcpy", What: "memcpy of that", Unit: "ms CPU"},
		{Name: "expose_text", What: "text", Unit: "ms CPU"},
		{Name: "expose_text_to_memcpy", What: "text, to memcpy", Unit: "x", Target: 5},
		{Name: "expose_text_to_collector", What: "text, to client_golang's collector", Unit: "x", Target: 1.0 / 40},
		{Name: "expose_openmetrics", What: "OpenMetrics", Unit: "ms CPU"},
		{Name: "expose_openmetrics_to_memcpy", What: "OpenMetrics, to memcpy", Unit: "x", Target: 5},
		{Name: "expose_openmetrics_to_collector", What: "OpenMetrics, to client_golang's collector", Unit: "x", Target: 1.0 / 40},
		{Name: "expose_text_gzip", What: "text, gzip", Unit: "ms CPU", Target: 250},
		{Name: "expose_openmetrics_gzip", What: "OpenMetrics, gzip", Unit: "ms CPU", Target: 250},
		{Name: "expose_text_zstd", What: "text, zstd", Unit: "ms CPU"},
		{Name: "expose_protobuf", What: "protobuf", Unit: "ms CPU"},
		{Name: "expose_extra_heap", What: "heap for a scrape, at most", Unit: "MB", Target: 2},
		{Name: "expose_extra_heap_gzip", What: "heap for a scrape with gzip, at most", Unit: "MB", Target: 2},
		{Name: "expose_retained", What: "memory that holds the series", Unit: "MB", Target: 60},
		{Name: "expose_gauge_vec", What: "client_golang's GaugeVec, text", Unit: "ms CPU"},
		{Name: "expose_gauge_vec_retained", What: "GaugeVec, memory", Unit: "MB"},
		{Name: "expose_victoria", What: "VictoriaMetrics/metrics, text", Unit: "ms CPU"},
		{Name: "expose_victoria_retained", What: "VictoriaMetrics/metrics, memory", Unit: "MB"},
		{Name: "expose_whole_page", What: "text of all that our server shows of the agents", Unit: "ms CPU"},
		{Name: "expose_whole_page_bytes", What: "its size", Unit: "MB"},
		{Name: "expose_whole_page_retained", What: "memory of its publisher", Unit: "MB"},
	}
	r := make(map[string]result)
	var errs []error
	for _, name := range []string{
		"memcpy", "text", "openmetrics", "text-gzip", "openmetrics-gzip", "text-zstd", "protobuf", "whole-page",
		"collector", "collector-openmetrics", "collector-gzip", "gauge-vec", "victoria",
	} {
		one, err := race(ctx, o, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r[name] = one
	}
	if err := errors.Join(errs...); err != nil {
		return rows, err
	}
	for row, name := range map[string]string{
		"expose_memcpy": "memcpy", "expose_text": "text", "expose_openmetrics": "openmetrics", "expose_text_gzip": "text-gzip",
		"expose_openmetrics_gzip": "openmetrics-gzip", "expose_text_zstd": "text-zstd", "expose_protobuf": "protobuf",
		"expose_gauge_vec": "gauge-vec", "expose_victoria": "victoria", "expose_whole_page": "whole-page",
	} {
		rows.Set(row, r[name].CPU*1000)
	}
	const mb = 1e6
	rows.Set("expose_bytes", r["text"].Bytes/mb)
	rows.Set("expose_text_to_memcpy", r["text"].CPU/r["memcpy"].CPU)
	rows.Set("expose_openmetrics_to_memcpy", r["openmetrics"].CPU/r["memcpy"].CPU)
	rows.Set("expose_text_to_collector", r["text"].CPU/r["collector"].CPU)
	rows.Set("expose_openmetrics_to_collector", r["openmetrics"].CPU/r["collector-openmetrics"].CPU)
	rows.Set("expose_extra_heap", max(r["text"].Allocated, r["openmetrics"].Allocated)/mb)
	rows.Set("expose_extra_heap_gzip", max(r["text-gzip"].Allocated, r["openmetrics-gzip"].Allocated)/mb)
	rows.Set("expose_retained", r["text"].Retained/mb)
	rows.Set("expose_gauge_vec_retained", r["gauge-vec"].Retained/mb)
	rows.Set("expose_victoria_retained", r["victoria"].Retained/mb)
	rows.Set("expose_whole_page_bytes", r["whole-page"].Bytes/mb)
	rows.Set("expose_whole_page_retained", r["whole-page"].Retained/mb)
	for row, name := range map[string]string{
		"expose_text": "collector", "expose_openmetrics": "collector-openmetrics", "expose_text_gzip": "collector-gzip",
	} {
		rows.SetPeer(row, r[name].CPU*1000)
	}
	rows.SetPeer("expose_extra_heap", r["collector"].Allocated/mb)
	rows.SetPeer("expose_extra_heap_gzip", r["collector-gzip"].Allocated/mb)
	rows.SetPeer("expose_retained", min(r["gauge-vec"].Retained, r["victoria"].Retained)/mb)
	return rows, nil
}
