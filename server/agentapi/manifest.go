package agentapi

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

func (a *session) GetManifest(ctx context.Context, _ *agentpb.GetManifestRequest) (*agentpb.Manifest, error) {
	m := manifest(a.id, a.version, a.s.o.DERPMap())
	if a.s.o.Git != nil {
		m.GitAuthConfigs = uint32(len(a.s.o.Git.Providers()))
	}
	m.DisableDirectConnections, m.DerpForceWebsockets = a.s.o.BlockDirect, a.s.o.ForceWebsockets
	return m, nil
}

// manifest describes the agent to itself. A stock agent crashes on what is left
// out here (contract agent-api.md section 4.4).
func manifest(id catalog.Identity, version string, relays *tailnetpb.DERPMap) *agentpb.Manifest {
	spec := id.Agent.Spec
	m := &agentpb.Manifest{
		AgentId: id.Agent.ID[:], WorkspaceId: id.Workspace.ID[:],
		AgentName: id.Agent.Name, WorkspaceName: id.Workspace.Name, OwnerUsername: id.Owner.Username,
		Directory: spec.Directory, MotdPath: spec.MOTDFile, EnvironmentVariables: spec.Environment,
		DerpMap: relays,
		Worktally: &worktallypb.ManifestExtension{
			TemplateName: id.Workspace.Template.Name, TemplateVersion: id.Workspace.Template.Version,
		},
	}
	for _, s := range spec.Scripts {
		m.Scripts = append(m.Scripts, &agentpb.WorkspaceAgentScript{
			Id: s.ID[:], LogSourceId: s.LogSourceID[:], DisplayName: s.Name, Script: s.Text, Cron: s.Cron, LogPath: s.LogPath,
			RunOnStart: s.RunOnStart, RunOnStop: s.RunOnStop, StartBlocksLogin: s.StartBlocksLogin, Timeout: durationpb.New(s.Timeout),
		})
	}
	for _, app := range spec.Apps {
		m.Apps = append(m.Apps, appMessage(app, version))
	}
	for _, d := range spec.Metadata {
		m.Metadata = append(m.Metadata, &agentpb.WorkspaceAgentMetadata_Description{
			Key: d.Key, DisplayName: d.DisplayName, Script: d.Script,
			Interval: secondsAsNanos(d.Interval), Timeout: secondsAsNanos(d.Timeout),
		})
	}
	return m
}

func appMessage(app catalog.App, version string) *agentpb.WorkspaceApp {
	m := &agentpb.WorkspaceApp{
		Id: app.ID[:], Slug: app.Slug, DisplayName: app.DisplayName, Url: app.URL, Command: app.Command, Icon: app.Icon,
		External: app.External, Hidden: app.Hidden, SharingLevel: app.Share,
		Healthcheck: &agentpb.WorkspaceApp_Healthcheck{
			Url: app.Healthcheck.URL, Interval: durationpb.New(app.Healthcheck.Interval), Threshold: app.Healthcheck.Threshold,
		},
		Health: agentpb.WorkspaceApp_DISABLED,
	}
	if app.Healthcheck.URL != "" {
		m.Health = agentpb.WorkspaceApp_INITIALIZING
	}
	v, err := wire.ParseVersion(version)
	if m.SharingLevel == agentpb.WorkspaceApp_ORGANIZATION && (err != nil || v.Minor < 6) {
		// An older agent refuses a manifest with a level that it does not know.
		m.SharingLevel = agentpb.WorkspaceApp_AUTHENTICATED
	}
	if m.SharingLevel == agentpb.WorkspaceApp_SHARING_LEVEL_UNSPECIFIED {
		m.SharingLevel = agentpb.WorkspaceApp_OWNER
	}
	return m
}

// secondsAsNanos writes a duration the way metadata has it on the wire: the
// count of nanoseconds is a number of seconds.
func secondsAsNanos(d time.Duration) *durationpb.Duration {
	return durationpb.New(time.Duration(d / time.Second))
}

func (a *session) GetServiceBanner(ctx context.Context, _ *agentpb.GetServiceBannerRequest) (*agentpb.ServiceBanner, error) {
	for _, b := range a.id.Agent.Spec.Banners {
		return &agentpb.ServiceBanner{Enabled: true, Message: b.Message, BackgroundColor: b.BackgroundColor}, nil
	}
	return &agentpb.ServiceBanner{}, nil
}

func (a *session) GetAnnouncementBanners(context.Context, *agentpb.GetAnnouncementBannersRequest) (*agentpb.GetAnnouncementBannersResponse, error) {
	resp := &agentpb.GetAnnouncementBannersResponse{}
	for _, b := range a.id.Agent.Spec.Banners {
		resp.AnnouncementBanners = append(resp.AnnouncementBanners, &agentpb.BannerConfig{
			Enabled: true, Message: b.Message, BackgroundColor: b.BackgroundColor,
		})
	}
	return resp, nil
}

// The sampling that agents are told; a stock agent crashes without it.
const (
	monitoringPoints  = 20
	monitoringSeconds = 10
)

func (a *session) GetResourcesMonitoringConfiguration(context.Context, *agentpb.GetResourcesMonitoringConfigurationRequest) (*agentpb.GetResourcesMonitoringConfigurationResponse, error) {
	resp := &agentpb.GetResourcesMonitoringConfigurationResponse{
		Config: &agentpb.GetResourcesMonitoringConfigurationResponse_Config{
			NumDatapoints: monitoringPoints, CollectionIntervalSeconds: monitoringSeconds,
		},
	}
	if a.id.Agent.Spec.Resources.Memory {
		resp.Memory = &agentpb.GetResourcesMonitoringConfigurationResponse_Memory{Enabled: true}
	}
	for _, path := range a.id.Agent.Spec.Resources.Volumes {
		resp.Volumes = append(resp.Volumes, &agentpb.GetResourcesMonitoringConfigurationResponse_Volume{Enabled: true, Path: path})
	}
	return resp, nil
}
