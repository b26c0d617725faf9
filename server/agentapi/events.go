package agentapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/worktally/worktally/server/audit"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

func (a *session) ScriptCompleted(ctx context.Context, r *agentpb.WorkspaceAgentScriptCompletedRequest) (*agentpb.WorkspaceAgentScriptCompletedResponse, error) {
	t := r.GetTiming()
	if t == nil {
		return nil, a.missing("ScriptCompleted")
	}
	id, err := wire.UUID("timing.script_id", t.GetScriptId())
	if err != nil {
		return nil, err
	}
	start, errStart := validTime("timing.start", t.GetStart())
	end, errEnd := validTime("timing.end", t.GetEnd())
	if err := errors.Join(errStart, errEnd); err != nil {
		return nil, err
	}
	if end.Before(start) {
		return nil, errors.New("timing.end is before timing.start")
	}
	err = a.s.o.Catalog.AddScriptTiming(ctx, a.id.Agent.ID, catalog.ScriptTiming{
		ScriptID: id, Start: start, End: end, ExitCode: t.GetExitCode(), Stage: t.GetStage(), Status: t.GetStatus(),
	})
	if err != nil {
		return nil, err
	}
	return &agentpb.WorkspaceAgentScriptCompletedResponse{}, nil
}

func validTime(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, fmt.Errorf("%s is missing", field)
	}
	if err := t.CheckValid(); err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", field, err)
	}
	if t.AsTime().IsZero() {
		return time.Time{}, fmt.Errorf("%s is zero", field)
	}
	return t.AsTime(), nil
}

func (a *session) ReportConnection(ctx context.Context, r *agentpb.ReportConnectionRequest) (*emptypb.Empty, error) {
	c := r.GetConnection()
	if c == nil {
		return nil, a.missing("ReportConnection")
	}
	id, err := wire.UUID("connection.id", c.GetId())
	if err != nil {
		return nil, err
	}
	if id == uuid.Nil {
		return nil, errors.New("connection.id is all zero")
	}
	if c.GetAction() != agentpb.Connection_CONNECT && c.GetAction() != agentpb.Connection_DISCONNECT {
		return nil, fmt.Errorf("unknown connection action %d", c.GetAction())
	}
	err = a.s.o.Catalog.AddConnection(ctx, a.id.Agent.ID, catalog.Connection{
		ID: id, Action: c.GetAction(), Type: c.GetType(), AppName: c.GetAppName(), IP: c.GetIp(),
		StatusCode: c.GetStatusCode(), Reason: c.GetReason(), At: a.s.o.Now(),
	})
	if err != nil {
		return nil, err
	}
	e := a.event(audit.ConnectionOpened, c.GetIp())
	if c.GetAction() == agentpb.Connection_DISCONNECT {
		e.Name = audit.ConnectionClosed
	}
	e.ID, e.Kind, e.Reason = id.String(), strings.ToLower(c.GetType().String()), c.GetReason()
	a.s.o.Audit.Record(e)
	return &emptypb.Empty{}, nil
}

func (a *session) PushResourcesMonitoringUsage(ctx context.Context, r *agentpb.PushResourcesMonitoringUsageRequest) (*agentpb.PushResourcesMonitoringUsageResponse, error) {
	points := r.GetDatapoints()
	if len(points) == 0 {
		return nil, a.missing("PushResourcesMonitoringUsage")
	}
	if err := a.s.o.Catalog.SetResourcesUsage(ctx, a.id.Agent.ID, points[len(points)-1]); err != nil {
		return nil, err
	}
	return &agentpb.PushResourcesMonitoringUsageResponse{}, nil
}

// ListSubAgents: there are none, and a stock agent asks although it has none.
func (a *session) ListSubAgents(context.Context, *agentpb.ListSubAgentsRequest) (*agentpb.ListSubAgentsResponse, error) {
	return &agentpb.ListSubAgentsResponse{}, nil
}
