package controlapi

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the API's own.
type metrics struct {
	refused *prometheus.CounterVec
}

// Why a request was not let in.
const (
	refusedMissing = "missing_token"
	refusedInvalid = "invalid_token"
	refusedLimited = "too_many_failures"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{refused: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "worktally_control_api_logins_refused_total",
		Help: "Requests of people that were refused for want of a valid token, by reason.",
	}, []string{"reason"})}
	for _, reason := range []string{refusedMissing, refusedInvalid, refusedLimited} {
		m.refused.WithLabelValues(reason)
	}
	return m
}
