package agentapps

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire/agentpb"
)

// requestTimeout bounds each request to the server.
const requestTimeout = 30 * time.Second

// HealthAPI is the part of the Agent service that Health needs.
type HealthAPI interface {
	BatchUpdateAppHealths(context.Context, *agentpb.BatchUpdateAppHealthRequest) (*agentpb.BatchUpdateAppHealthResponse, error)
}

// HealthOptions of a Health. The zero value works.
type HealthOptions struct {
	// Log may be nil.
	Log *slog.Logger
	// Transport carries the probes; nil means one of Health's own.
	Transport http.RoundTripper
}

// Health probes the apps that have a health check. Create it with NewHealth.
type Health struct {
	log       *slog.Logger
	transport http.RoundTripper

	// mu guards the fields below.
	mu   sync.Mutex
	apps []*app
	// reported is what the server knows, as far as we know.
	reported map[uuid.UUID]agentpb.AppHealth
}

// app is one tracked app.
type app struct {
	id        uuid.UUID
	slug, url string
	interval  time.Duration
	threshold int32

	// The fields below are guarded by Health.mu.
	health   agentpb.AppHealth
	failures int32
}

// probed says whether there is anything to probe.
func (a *app) probed() bool { return a.interval > 0 && a.threshold > 0 }

// NewHealth returns a Health without apps.
func NewHealth(o HealthOptions) *Health {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Health{log: o.Log, transport: o.Transport}
}

// Update replaces the apps by those of a manifest, for the next Run. An app that
// is known already keeps the health that was found here; if the manifest says
// another, it will be reported again.
func (h *Health) Update(apps []*agentpb.WorkspaceApp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := make(map[uuid.UUID]*app, len(h.apps))
	for _, a := range h.apps {
		known[a.id] = a
	}
	h.apps, h.reported = nil, make(map[uuid.UUID]agentpb.AppHealth, len(apps))
	for _, m := range apps {
		a, ok := h.tracked(m)
		if _, twice := h.reported[a.id]; !ok || twice {
			continue
		}
		h.reported[a.id] = a.health
		if old := known[a.id]; old != nil {
			a.health, a.failures = old.health, old.failures
		}
		h.apps = append(h.apps, &a)
	}
}

// tracked returns the app if its health is to be reported. One without a URL
// cannot be probed, and the server refuses reports that name it.
func (h *Health) tracked(m *agentpb.WorkspaceApp) (app, bool) {
	check := m.GetHealthcheck()
	a := app{
		slug: m.GetSlug(), url: check.GetUrl(), threshold: check.GetThreshold(),
		interval: check.GetInterval().AsDuration().Truncate(time.Second),
		health:   agentpb.AppHealth(m.GetHealth()),
	}
	if a.health == agentpb.AppHealth_APP_HEALTH_UNSPECIFIED || a.health == agentpb.AppHealth_DISABLED || a.url == "" {
		return a, false
	}
	id, err := uuid.FromBytes(m.GetId())
	if err != nil {
		h.log.Warn("app ignored: its id is no UUID", "app", a.slug)
		return a, false
	}
	a.id = id
	return a, true
}

// Run probes and reports until ctx ends, or returns at once if there are no apps.
// Errors of reports are logged and the report is repeated.
func (h *Health) Run(ctx context.Context, api HealthAPI) {
	h.mu.Lock()
	apps := h.apps
	h.mu.Unlock()
	if len(apps) == 0 {
		return
	}
	transport := h.transport
	if transport == nil {
		own := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1}
		defer own.CloseIdleConnections()
		transport = own
	}
	client := &http.Client{Transport: transport}
	var probes sync.WaitGroup
	defer probes.Wait()
	for _, a := range apps {
		if a.probed() {
			probes.Go(func() { h.probe(ctx, client, a) })
		}
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var failures failureLog
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := h.report(ctx, api); ctx.Err() == nil {
				failures.note(h.log, "report app health", err)
			}
		}
	}
}

// report sends the health of all apps if that of any has changed.
func (h *Health) report(ctx context.Context, api HealthAPI) error {
	now := make(map[uuid.UUID]agentpb.AppHealth)
	req := &agentpb.BatchUpdateAppHealthRequest{}
	h.mu.Lock()
	for _, a := range h.apps {
		now[a.id] = a.health
		req.Updates = append(req.Updates, &agentpb.BatchUpdateAppHealthRequest_HealthUpdate{
			Id: slices.Clone(a.id[:]), Health: a.health,
		})
	}
	unchanged := maps.Equal(now, h.reported)
	h.mu.Unlock()
	if unchanged {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := api.BatchUpdateAppHealths(ctx, req); err != nil {
		return err
	}
	h.mu.Lock()
	h.reported = now
	h.mu.Unlock()
	return nil
}
