package agentapi

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

// session answers the calls of one session of an agent. Calls it does not
// override answer code 12.
type session struct {
	agentpb.DRPCAgentUnimplementedServer
	s    *Service
	open *openSession
	id   catalog.Identity
	// known is when id was read, at the latest.
	known   time.Time
	version string
	log     *slog.Logger
}

// missing counts a call without the part that it is about.
func (a *session) missing(call string) error {
	a.s.c.add("worktally_missing_messages_total", "call", call, 1)
	return fmt.Errorf("%s: the message is missing", call)
}

func (a *session) UpdateStartup(ctx context.Context, r *agentpb.UpdateStartupRequest) (*agentpb.Startup, error) {
	startup := r.GetStartup()
	if startup == nil {
		return nil, a.missing("UpdateStartup")
	}
	// It may have to be kept, so it is bounded here; more is cut or refused anyway.
	id, version, directory := a.id.Agent.ID, head(startup.GetVersion()), head(startup.GetExpandedDirectory())
	subsystems := startup.GetSubsystems()
	subsystems = subsystems[:min(len(subsystems), maxSubsystems)]
	err := a.s.late.try(ctx, id, lateStartup, func(ctx context.Context) error {
		return a.s.o.Catalog.SetStartup(ctx, id, version, directory, subsystems)
	})
	if err != nil {
		return nil, err
	}
	return startup, nil
}

const (
	maxStartupText = 4096
	maxSubsystems  = 1000
)

func head(s string) string { return s[:min(len(s), maxStartupText)] }

func (a *session) UpdateLifecycle(ctx context.Context, r *agentpb.UpdateLifecycleRequest) (*agentpb.Lifecycle, error) {
	l := r.GetLifecycle()
	if l == nil {
		return nil, a.missing("UpdateLifecycle")
	}
	if _, known := agentpb.Lifecycle_State_name[int32(l.GetState())]; !known || l.GetState() == agentpb.Lifecycle_STATE_UNSPECIFIED {
		return nil, fmt.Errorf("unknown lifecycle state %d", l.GetState())
	}
	changed := a.s.o.Now()
	if t := l.GetChangedAt(); t != nil && t.CheckValid() == nil && t.AsTime().Year() > 1 {
		changed = t.AsTime()
	}
	id, state := a.id.Agent.ID, l.GetState()
	err := a.s.late.try(ctx, id, lateLifecycle, func(ctx context.Context) error {
		return a.s.o.Catalog.SetLifecycle(ctx, id, state, changed)
	})
	if err != nil {
		return nil, err
	}
	if l.GetState() >= agentpb.Lifecycle_SHUTDOWN_TIMEOUT && a.s.sessions.isNewest(a.open) {
		a.s.o.Publisher.AgentOff(a.id.Workspace.ID, a.id.Agent.Name)
	}
	a.s.o.Publisher.AgentChanged()
	return l, nil
}

func (a *session) BatchUpdateAppHealths(ctx context.Context, r *agentpb.BatchUpdateAppHealthRequest) (*agentpb.BatchUpdateAppHealthResponse, error) {
	updates := make([]catalog.AppHealth, 0, len(r.GetUpdates()))
	for i, u := range r.GetUpdates() {
		id, err := wire.UUID(fmt.Sprintf("updates[%d].id", i), u.GetId())
		if err != nil {
			return nil, err
		}
		updates = append(updates, catalog.AppHealth{AppID: id, Health: u.GetHealth()})
	}
	if len(updates) > 0 {
		if err := a.s.o.Catalog.SetAppHealth(ctx, a.id.Agent.ID, updates); err != nil {
			return nil, err
		}
		a.s.o.Publisher.AgentChanged()
	}
	return &agentpb.BatchUpdateAppHealthResponse{}, nil
}

func (a *session) BatchUpdateMetadata(ctx context.Context, r *agentpb.BatchUpdateMetadataRequest) (*agentpb.BatchUpdateMetadataResponse, error) {
	now := a.s.o.Now()
	values := make([]catalog.MetadataValue, 0, len(r.GetMetadata()))
	for _, m := range r.GetMetadata() {
		if m.GetResult() == nil {
			a.s.c.add("worktally_missing_messages_total", "call", "BatchUpdateMetadata", 1)
			continue
		}
		values = append(values, catalog.MetadataValue{
			Key: m.GetKey(), Value: m.GetResult().GetValue(), Error: m.GetResult().GetError(), CollectedAt: now,
		})
	}
	if err := a.s.o.Catalog.SetMetadata(ctx, a.id.Agent.ID, values); err != nil {
		return nil, err
	}
	return &agentpb.BatchUpdateMetadataResponse{}, nil
}

func (a *session) BatchCreateLogs(ctx context.Context, r *agentpb.BatchCreateLogsRequest) (*agentpb.BatchCreateLogsResponse, error) {
	if len(r.GetLogs()) == 0 {
		return &agentpb.BatchCreateLogsResponse{}, nil
	}
	source, err := wire.UUID("log_source_id", r.GetLogSourceId())
	if err != nil {
		return nil, err
	}
	now := a.s.o.Now()
	lines := make([]catalog.LogLine, len(r.GetLogs()))
	for i, l := range r.GetLogs() {
		lines[i] = catalog.LogLine{SourceID: source, CreatedAt: now, Level: l.GetLevel(), Output: l.GetOutput()}
	}
	overflowed, err := a.s.o.Catalog.AppendLogs(ctx, a.id.Agent.ID, lines)
	if err != nil {
		return nil, err
	}
	return &agentpb.BatchCreateLogsResponse{LogLimitExceeded: overflowed}, nil
}
