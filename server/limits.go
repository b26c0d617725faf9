package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/worktally/worktally/internal/webserve"
)

// limits count what the bounds of the listeners threw away.
type limits struct {
	connectionsCut *prometheus.CounterVec
	scrapesCut     prometheus.Counter
}

func newLimits(reg prometheus.Registerer) *limits {
	with := promauto.With(reg)
	l := &limits{
		connectionsCut: with.NewCounterVec(prometheus.CounterOpts{
			Name: "worktally_http_connections_cut_total",
			Help: "Connections that ended because their request or its body did not come or its answer was not read in time, or for want of room or of descriptors, by listener.",
		}, []string{"listener", "reason"}),
		scrapesCut: with.NewCounter(prometheus.CounterOpts{
			Name: "worktally_scrapes_cut_total",
			Help: "Scrapes of this page that were cut because their reader was slow and another one waited, or took a minute.",
		}),
	}
	for _, listener := range []string{"api", "metrics"} {
		for _, reason := range []string{webserve.CutNoRequest, webserve.CutNoBody, webserve.CutNotRead, webserve.CutFull, webserve.CutNotAccepted} {
			l.connectionsCut.WithLabelValues(listener, reason)
		}
	}
	return l
}

// connections bounds those of a listener.
func (l *limits) connections(listener string) webserve.Bound {
	return webserve.Bounded(0, func(reason string) { l.connectionsCut.WithLabelValues(listener, reason).Inc() })
}
