package agentapps

import (
	"log/slog"
	"time"
)

// failureLog logs what fails again and again: the first failure, then at most
// one line a minute with a count, then the recovery. The zero value is ready.
type failureLog struct {
	failures int
	logged   time.Time
}

// note takes the result of one attempt.
func (f *failureLog) note(log *slog.Logger, what string, err error) {
	now := time.Now()
	switch {
	case err == nil && f.failures > 0:
		log.Info("works again: "+what, "failures", f.failures)
		f.failures = 0
	case err == nil:
	case f.failures == 0 || now.Sub(f.logged) >= time.Minute:
		f.failures++
		f.logged = now
		log.Warn("failed: "+what, "err", err, "failures", f.failures)
	default:
		f.failures++
	}
}
