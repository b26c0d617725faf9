package rollup

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// The parts that are refreshed apart.
const (
	partBuilds   = "builds"
	partInsights = "insights"
)

// metrics are about the work of the rollup.
type metrics struct {
	failures *prometheus.CounterVec
	last     *prometheus.GaugeVec
	took     *prometheus.HistogramVec
	dropped  *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	with := promauto.With(reg)
	m := &metrics{
		failures: with.NewCounterVec(prometheus.CounterOpts{
			Name: "worktally_rollup_failures_total",
			Help: "Refreshes of the deployment's rows that failed, so that the page shows the last good ones, by part.",
		}, []string{"part"}),
		last: with.NewGaugeVec(prometheus.GaugeOpts{
			Name: "worktally_rollup_last_success_timestamp_seconds",
			Help: "Time of the last refresh of the deployment's rows that succeeded, by part; 0 before the first.",
		}, []string{"part"}),
		took: with.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "worktally_rollup_duration_seconds",
			Help:    "Duration of a refresh of the deployment's rows, by part.",
			Buckets: []float64{0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30},
		}, []string{"part"}),
		dropped: with.NewGaugeVec(prometheus.GaugeOpts{
			Name: "worktally_rollup_dropped_series",
			Help: "Series for which a family of the deployment had no room in the last refresh, by family.",
		}, []string{"family"}),
	}
	for _, part := range []string{partBuilds, partInsights} {
		m.failures.WithLabelValues(part)
		m.last.WithLabelValues(part)
		m.took.WithLabelValues(part)
	}
	for family := range limits() {
		m.dropped.WithLabelValues(family)
	}
	return m
}

func (m *metrics) refreshed(part string, began time.Time, err error) {
	m.took.WithLabelValues(part).Observe(time.Since(began).Seconds())
	if err != nil {
		m.failures.WithLabelValues(part).Inc()
		return
	}
	m.last.WithLabelValues(part).SetToCurrentTime()
}
