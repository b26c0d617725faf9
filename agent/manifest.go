package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/agentscripts"
	"github.com/worktally/worktally/agent/reportclient"
	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/wire/agentpb"
)

// takeManifest takes in what the server says the agent is. Each session brings a
// manifest; scripts are those of the first.
func (a *Agent) takeManifest(ctx context.Context, m *agentpb.Manifest) (directory string, err error) {
	secrets := a.writeSecrets(m.GetSecrets())
	id := a.identityOf(m)
	a.commands.Update(agentexec.Settings{
		Directory: m.GetDirectory(), MOTDFile: m.GetMotdPath(), Env: m.GetEnvironmentVariables(), Secrets: secrets,
		OwnerName: m.GetOwnerUsername(), WorkspaceName: m.GetWorkspaceName(), AgentName: m.GetAgentName(), WorkspaceID: id.Workspace.String(),
		Token: a.tokenForChildren, ProxyURI: m.GetVsCodePortProxyUri(),
	})
	a.health.Update(m.GetApps())
	a.metadata.Update(m.GetMetadata())
	a.manifest.Store(m)
	a.setIdentity(ctx, id)
	if m.GetGitAuthConfigs() > 0 {
		a.prepareEditors()
	}
	if n := a.net.Load(); n != nil {
		n.apply(m)
	}
	a.taken.Do(func() { close(a.firstManifest) })
	if m.GetDirectory() == "" {
		return a.commands.Home()
	}
	return a.commands.ExpandPath(m.GetDirectory()), nil
}

func (a *Agent) tokenForChildren() string {
	if t := a.token.Load(); t != nil {
		return *t
	}
	return ""
}

// scriptsOf translates the scripts of a manifest, whose ids were checked.
func scriptsOf(m *agentpb.Manifest) []agentscripts.Script {
	scripts := make([]agentscripts.Script, 0, len(m.GetScripts()))
	for _, s := range m.GetScripts() {
		scripts = append(scripts, agentscripts.Script{
			ID: uuid.UUID(s.GetId()), LogSourceID: uuid.UUID(s.GetLogSourceId()), DisplayName: s.GetDisplayName(),
			LogPath: s.GetLogPath(), Script: s.GetScript(), Cron: s.GetCron(),
			RunOnStart: s.GetRunOnStart(), RunOnStop: s.GetRunOnStop(), StartBlocksLogin: s.GetStartBlocksLogin(),
			Timeout: s.GetTimeout().AsDuration(),
		})
	}
	return scripts
}

// scriptSink sends what scripts write, and how they ended, upstream.
type scriptSink struct{ a *Agent }

// Line implements agentscripts.Sink.
func (s scriptSink) Line(source uuid.UUID, at time.Time, level slog.Level, text string) {
	wireLevel := agentpb.Log_INFO
	switch {
	case level >= slog.LevelError:
		wireLevel = agentpb.Log_ERROR
	case level >= slog.LevelWarn:
		wireLevel = agentpb.Log_WARN
	case level < slog.LevelInfo:
		wireLevel = agentpb.Log_DEBUG
	}
	s.a.client.Log(source, reportclient.LogLine{Time: at, Level: wireLevel, Text: text})
}

// Completed implements agentscripts.Sink.
func (s scriptSink) Completed(t agentscripts.Timing) {
	s.a.client.ReportTiming(&agentpb.Timing{
		ScriptId: t.ScriptID[:], Start: timestamppb.New(t.Start), End: timestamppb.New(t.End), ExitCode: t.ExitCode,
		Stage:  map[stats.Stage]agentpb.Timing_Stage{stats.StageStop: agentpb.Timing_STOP, stats.StageCron: agentpb.Timing_CRON}[t.Stage],
		Status: timingStatus(t.Status),
	})
}

func timingStatus(s stats.ScriptStatus) agentpb.Timing_Status {
	switch s {
	case stats.ScriptOK:
		return agentpb.Timing_OK
	case stats.ScriptTimedOut:
		return agentpb.Timing_TIMED_OUT
	case stats.ScriptPipesLeftOpen:
		return agentpb.Timing_PIPES_LEFT_OPEN
	}
	return agentpb.Timing_EXIT_FAILURE
}
