package agentapps

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"storj.io/drpc/drpcerr"

	"github.com/worktally/worktally/wire/agentpb"
)

// ResourcesAPI is the part of the Agent service that Resources needs.
type ResourcesAPI interface {
	GetResourcesMonitoringConfiguration(context.Context, *agentpb.GetResourcesMonitoringConfigurationRequest) (*agentpb.GetResourcesMonitoringConfigurationResponse, error)
	PushResourcesMonitoringUsage(context.Context, *agentpb.PushResourcesMonitoringUsageRequest) (*agentpb.PushResourcesMonitoringUsageResponse, error)
}

// Usage is how much of something is used, in bytes.
type Usage struct{ Used, Total int64 }

// ResourcesOptions of a Resources. The zero value works.
type ResourcesOptions struct {
	// Log may be nil.
	Log *slog.Logger
	// Memory and Volume measure; nil means the system's own. Volume may hang, as
	// file systems do: it is called at most once at a time for each path.
	Memory func() (Usage, error)
	Volume func(path string) (Usage, error)
}

// maxDatapoints and maxVolumes are more than any server asks for.
const (
	maxDatapoints = 10_000
	maxVolumes    = 1000
	// volumeWait is how long volumes are awaited; a slower one is left out.
	volumeWait = 2 * time.Second
)

// Resources watches memory and volumes as the server asks for. Create it with
// NewResources.
type Resources struct {
	log    *slog.Logger
	memory func() (Usage, error)
	volume func(string) (Usage, error)

	// asked and points are used by Run alone: what the points were taken for, and
	// the last points, oldest first.
	asked  *agentpb.GetResourcesMonitoringConfigurationResponse
	points []*agentpb.PushResourcesMonitoringUsageRequest_Datapoint

	// mu guards hanging.
	mu sync.Mutex
	// hanging are the paths whose measuring has not come back yet.
	hanging map[string]bool
}

// NewResources starts nothing.
func NewResources(o ResourcesOptions) *Resources {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Memory == nil {
		o.Memory = func() (Usage, error) { return memoryUsage("/") }
	}
	if o.Volume == nil {
		o.Volume = volumeUsage
	}
	return &Resources{log: o.Log, memory: o.Memory, volume: o.Volume, hanging: make(map[string]bool)}
}

// plan is a configuration that was checked.
type plan struct {
	points   int
	interval time.Duration
	memory   bool
	volumes  []string
}

// newPlan checks what the server asks for. A stock agent ends when it is asked
// for nonsense (contract agent-api.md section 6.7).
func newPlan(r *agentpb.GetResourcesMonitoringConfigurationResponse) (plan, error) {
	c := r.GetConfig()
	p := plan{
		points: int(c.GetNumDatapoints()), interval: time.Duration(c.GetCollectionIntervalSeconds()) * time.Second,
		memory: r.GetMemory().GetEnabled(),
	}
	if len(r.GetVolumes()) > maxVolumes {
		return p, fmt.Errorf("%d volumes, want at most %d", len(r.GetVolumes()), maxVolumes)
	}
	for _, v := range r.GetVolumes() {
		if v.GetEnabled() && !slices.Contains(p.volumes, v.GetPath()) {
			p.volumes = append(p.volumes, v.GetPath())
		}
	}
	switch {
	case c == nil:
		return p, errors.New("no config")
	case p.points < 1 || p.points > maxDatapoints:
		return p, fmt.Errorf("num_datapoints is %d, want 1 to %d", p.points, maxDatapoints)
	case p.interval <= 0:
		return p, fmt.Errorf("collection_interval_seconds is %d, want at least 1", c.GetCollectionIntervalSeconds())
	}
	return p, nil
}

// Run asks what to watch and watches it until ctx ends (nil). It returns an error
// if the question fails, and nil at once if there is nothing to watch or the
// answer makes no sense, which is logged. Points of an earlier session with the
// same answer are kept.
func (r *Resources) Run(ctx context.Context, api ResourcesAPI) error {
	getCtx, cancel := context.WithTimeout(ctx, requestTimeout)
	asked, err := api.GetResourcesMonitoringConfiguration(getCtx, &agentpb.GetResourcesMonitoringConfigurationRequest{})
	cancel()
	switch {
	case ctx.Err() != nil:
		return nil
	case drpcerr.Code(err) == drpcerr.Unimplemented:
		r.log.Info("server does not watch resources")
		return nil
	case err != nil:
		return fmt.Errorf("get resources monitoring configuration: %w", err)
	}
	p, err := newPlan(asked)
	if err != nil {
		r.log.Error("resources are not watched: the server's configuration is invalid", "err", err)
		return nil
	}
	if !p.memory && len(p.volumes) == 0 {
		return nil
	}
	if !proto.Equal(asked, r.asked) {
		r.asked, r.points = asked, nil
	}
	r.watch(ctx, api, p)
	return nil
}

// watch takes a point in every interval and pushes the last ones once there are
// enough of them.
func (r *Resources) watch(ctx context.Context, api ResourcesAPI, p plan) {
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	var failures failureLog
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r.points = append(r.points, r.measure(ctx, p))
		r.points = r.points[max(0, len(r.points)-p.points):]
		if len(r.points) < p.points {
			continue
		}
		if err := r.push(ctx, api, min(p.interval, requestTimeout)); ctx.Err() == nil {
			failures.note(r.log, "push resources usage", err)
		}
	}
}

func (r *Resources) push(ctx context.Context, api ResourcesAPI, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := api.PushResourcesMonitoringUsage(ctx, &agentpb.PushResourcesMonitoringUsageRequest{Datapoints: r.points})
	return err
}

// measure takes one point. What cannot be read is left out.
func (r *Resources) measure(ctx context.Context, p plan) *agentpb.PushResourcesMonitoringUsageRequest_Datapoint {
	d := &agentpb.PushResourcesMonitoringUsageRequest_Datapoint{CollectedAt: timestamppb.Now()}
	if p.memory {
		if u, err := r.memory(); err != nil {
			r.log.Debug("measure memory", "err", err)
		} else {
			d.Memory = &agentpb.PushResourcesMonitoringUsageRequest_Datapoint_MemoryUsage{Used: u.Used, Total: u.Total}
		}
	}
	for i, u := range r.measureVolumes(ctx, p.volumes) {
		if u != nil {
			d.Volumes = append(d.Volumes, &agentpb.PushResourcesMonitoringUsageRequest_Datapoint_VolumeUsage{
				Volume: p.volumes[i], Used: u.Used, Total: u.Total,
			})
		}
	}
	return d
}
