package ledger

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/worktally/worktally/internal/sqldb"
)

// metrics are the ledger's own.
type metrics struct {
	commits     prometheus.Counter
	failures    prometheus.Counter
	duration    prometheus.Histogram
	submissions prometheus.Counter
	unqueued    prometheus.Counter
	windows     *prometheus.CounterVec
	refused     *prometheus.CounterVec
	skipped     prometheus.Counter
	late        prometheus.Counter
	closed      prometheus.Counter
	dropped     *prometheus.CounterVec
	// refusedByDisk counts submissions, which agents send again.
	refusedByDisk *prometheus.CounterVec
}

// What the ledger throws away, by the label what.
const (
	droppedHistory    = "old_history"
	droppedSeries     = "agent_series"
	droppedDeployment = "deployment_series"
)

func newMetrics(reg prometheus.Registerer, queue chan *request) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "worktally_ledger_" + name, Help: help})
	}
	vec := func(name, label, help string, values ...string) *prometheus.CounterVec {
		v := f.NewCounterVec(prometheus.CounterOpts{Name: "worktally_ledger_" + name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "worktally_ledger_queue_length", Help: "Submissions that wait for the writer.",
	}, func() float64 { return float64(len(queue)) })
	return &metrics{
		commits:  counter("commits_total", "Transactions committed by the writer."),
		failures: counter("commit_failures_total", "Transactions that failed; their submissions are tried alone, or again by the agent."),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name: "worktally_ledger_commit_duration_seconds", Help: "Time from taking a group of submissions to its commit.",
			Buckets: prometheus.DefBuckets, NativeHistogramBucketFactor: 1.1,
		}),
		submissions: counter("submissions_total", "Submissions committed."),
		unqueued:    counter("submissions_abandoned_total", "Submissions given up before the writer took them, because the caller stopped waiting."),
		windows: vec("windows_total", "result", "Windows and stock reports acknowledged, by what they were.",
			"totals", "resent", "history"),
		refused: vec("windows_refused_total", "reason", "Windows refused for good, by reason.",
			RefusedTotalsFell, RefusedBadSequence, RefusedClosedEpoch, RefusedBadEpoch, RefusedTooManySeries, RefusedDuplicate, RefusedForgotten),
		skipped: counter("sequences_skipped_total", "Windows that newer totals passed over; they may come later, as history."),
		late:    counter("sequences_late_total", "Windows that came after newer totals had passed over them."),
		closed:  counter("epochs_closed_total", "Epochs folded into the base of their agent."),
		dropped: vec("dropped_total", "what", "What was not stored for want of room or for age.",
			droppedHistory, droppedSeries, droppedDeployment),
		refusedByDisk: vec("submissions_refused_total", "reason", "Submissions refused because the database's disk is full or fails; agents keep them and send them again.",
			sqldb.Full.String(), sqldb.IO.String()),
	}
}

func (m *metrics) add(t *tally) {
	m.submissions.Inc()
	m.windows.WithLabelValues("totals").Add(float64(t.committed))
	m.windows.WithLabelValues("resent").Add(float64(t.resent))
	m.windows.WithLabelValues("history").Add(float64(t.history))
	for reason, n := range t.refused {
		m.refused.WithLabelValues(reason).Add(float64(n))
	}
	m.skipped.Add(float64(t.skipped))
	m.late.Add(float64(t.late))
	m.closed.Add(float64(t.closed))
	m.dropped.WithLabelValues(droppedHistory).Add(float64(t.droppedHistory))
	m.dropped.WithLabelValues(droppedSeries).Add(float64(t.droppedSeries))
}
