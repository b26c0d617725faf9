package controlapi

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the API's own.
type metrics struct {
	refused       *prometheus.CounterVec
	clients       prometheus.Gauge
	resumeRefused prometheus.Counter
	panics        prometheus.Counter
	broken        prometheus.Counter

	sessionsRefused prometheus.Counter
}

// Why a request was not let in.
const (
	refusedMissing = "missing_token"
	refusedInvalid = "invalid_token"
	refusedLimited = "too_many_failures"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	with := promauto.With(reg)
	m := &metrics{
		refused: with.NewCounterVec(prometheus.CounterOpts{
			Name: "worktally_control_api_logins_refused_total",
			Help: "Requests of people that were refused for want of a valid token, by reason.",
		}, []string{"reason"}),
		clients: with.NewGauge(prometheus.GaugeOpts{
			Name: "worktally_client_sessions",
			Help: "Sessions that people's clients hold open with the coordinator of this process.",
		}),
		resumeRefused: with.NewCounter(prometheus.CounterOpts{
			Name: "worktally_client_resume_tokens_refused_total",
			Help: "Resume tokens of people's clients that were not valid, or no longer; the client is a new peer then.",
		}),
		sessionsRefused: with.NewCounter(prometheus.CounterOpts{
			Name: "worktally_client_sessions_refused_total",
			Help: "Connections, watches and logs that were not opened because their person had too many of them.",
		}),
		broken: with.NewCounter(prometheus.CounterOpts{
			Name: "worktally_client_calls_broken_total",
			Help: "Calls of people's clients that were too large, not of the protocol, or not made in time.",
		}),
		panics: with.NewCounter(prometheus.CounterOpts{
			Name: "worktally_client_panics_total",
			Help: "Calls of people's clients that ended in a mistake of the server's.",
		}),
	}
	for _, reason := range []string{refusedMissing, refusedInvalid, refusedLimited} {
		m.refused.WithLabelValues(reason)
	}
	return m
}
