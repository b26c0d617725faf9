package republish

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/worktally/worktally/exposition"
)

// newRefreshes registers the histogram of the time that the states of agents
// take, under its published name and under that of a running reference server
// (contract metrics.md section 0.3), as the mode says.
func newRefreshes(to prometheus.Registerer, mode exposition.LabelMode) ([]prometheus.Observer, error) {
	const published, real = "coderd_metrics_collector_agents_execution_seconds", "coderd_prometheusmetrics_agents_execution_seconds"
	var observers []prometheus.Observer
	for _, name := range [...][]string{exposition.LabelsBoth: {published, real}, exposition.LabelsSeed: {published}, exposition.LabelsLive: {real}}[mode] {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name, Help: "Time to collect the state of all agents, whether or not it could be read.",
			Buckets: []float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10, 30},
		})
		if to != nil {
			if err := to.Register(h); err != nil {
				return nil, fmt.Errorf("register %s: %w", name, err)
			}
		}
		observers = append(observers, h)
	}
	return observers, nil
}
