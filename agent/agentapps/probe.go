package agentapps

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/worktally/worktally/wire/agentpb"
)

// maxProbeBody is how much of an answer is read, so that its connection can be
// used again.
const maxProbeBody = 64 << 10

// probe asks the app in every interval, the first time after one.
func (h *Health) probe(ctx context.Context, client *http.Client, a *app) {
	tick := time.NewTicker(a.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := ask(ctx, client, a.url, a.interval-time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		h.mu.Lock()
		before := a.health
		a.health, a.failures = judge(a.health, a.failures, a.threshold, err == nil)
		after := a.health
		h.mu.Unlock()
		if after != before {
			h.log.Info("app health changed", "app", a.slug, "app_id", a.id, "health", after.String(), "err", err)
		}
	}
}

// judge returns health and failure counter after a probe: one success makes an
// app healthy; failures count up to the threshold, and the one after that makes
// it unhealthy.
func judge(health agentpb.AppHealth, failures, threshold int32, ok bool) (agentpb.AppHealth, int32) {
	switch {
	case ok:
		return agentpb.AppHealth_HEALTHY, 0
	case failures < threshold:
		return health, failures + 1
	}
	return agentpb.AppHealth_UNHEALTHY, failures
}

// ask requests the URL; any answer below 500 is well.
func ask(ctx context.Context, client *http.Client, url string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxProbeBody) // the answer counts, not its body
	if res.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("status %s", res.Status)
	}
	return nil
}
