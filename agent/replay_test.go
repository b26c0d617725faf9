//go:build unix

package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

// TestReplay_RecordedSession lets the whole agent live through the recorded
// session: the recorded server answers, the agent runs the recorded scripts and
// metadata for real, and what it says is compared message by message. Excepted
// by name: times, and values that tell the time or the load of a machine.
func TestReplay_RecordedSession(t *testing.T) {
	requests := wiretest.Recorded(t, "request")
	s := wiretest.Start(t, wiretest.Options{})
	s.Replay(t)
	// Without its ten-second schedule the session is as short as its scripts.
	recorded := wiretest.Recorded(t, "response")["GetManifest"][0].(*agentpb.Manifest)
	manifest := proto.Clone(recorded).(*agentpb.Manifest)
	for _, script := range manifest.GetScripts() {
		script.Cron = ""
	}
	for _, item := range manifest.GetMetadata() {
		item.Timeout = &durationpb.Duration{Nanos: 60} // seconds: a busy machine may need more than the recorded one
	}
	wiretest.On(s.Service, func(context.Context, *agentpb.GetManifestRequest) (*agentpb.Manifest, error) {
		return proto.Clone(manifest).(*agentpb.Manifest), nil
	})
	home := filepath.Join(t.TempDir(), "coder")
	if err := os.MkdirAll(filepath.Join(home, "project"), 0o700); err != nil {
		t.Fatal(err)
	}
	a := run(t, s, func(o *Options) {
		o.Version = "v0.0.0-devel+4bced62"
		o.Environ = func() []string { return []string{"HOME=" + home, "PATH=/usr/bin:/bin", "SHELL=/bin/sh"} }
	})
	s.WaitCalls(t, "UpdateLifecycle", 2)
	s.Wait(t, "all metadata", func() bool {
		return len(metadataOf(wiretest.Requests[*agentpb.BatchUpdateMetadataRequest](s.Service))) == 4
	})
	if err := a.stop(); err != nil {
		t.Error(err)
	}

	compare := func(name string, want, got any, excepted ...cmp.Option) {
		t.Helper()
		if diff := cmp.Diff(want, got, append(excepted, protocmp.Transform())...); diff != "" {
			t.Errorf("%s (-recorded +ours):\n%s", name, diff)
		}
	}
	compare("GetManifest", requests["GetManifest"], ours(s, "GetManifest"))
	startup := proto.Clone(requests["UpdateStartup"][0]).(*agentpb.UpdateStartupRequest)
	startup.Startup.ExpandedDirectory = filepath.Join(home, "project") // /home/coder/project there
	compare("UpdateStartup", []proto.Message{startup}, ours(s, "UpdateStartup"), protocmp.IgnoreFields(&agentpb.Startup{}, "worktally"))
	compare("UpdateLifecycle", requests["UpdateLifecycle"], ours(s, "UpdateLifecycle"), protocmp.IgnoreFields(&agentpb.Lifecycle{}, "changed_at"))
	compare("GetAnnouncementBanners", requests["GetAnnouncementBanners"][:1], ours(s, "GetAnnouncementBanners"))
	compare("GetResourcesMonitoringConfiguration", requests["GetResourcesMonitoringConfiguration"], ours(s, "GetResourcesMonitoringConfiguration"))

	compare("BatchCreateLogs", logsOf(withoutCron(requests["BatchCreateLogs"], recorded)), logsOf(ours(s, "BatchCreateLogs")))
	compare("ScriptCompleted", timingsOf(requests["ScriptCompleted"]), timingsOf(ours(s, "ScriptCompleted")),
		protocmp.IgnoreFields(&agentpb.Timing{}, "start", "end"))
	compare("BatchUpdateMetadata",
		metadataOf([]*agentpb.BatchUpdateMetadataRequest{requests["BatchUpdateMetadata"][0].(*agentpb.BatchUpdateMetadataRequest)}),
		metadataOf(wiretest.Requests[*agentpb.BatchUpdateMetadataRequest](s.Service)))

	hello := wiretest.Requests[*agentpb.UpdateStatsRequest](s.Service)[0]
	compare("UpdateStats", requests["UpdateStats"][0], proto.Message(hello), protocmp.IgnoreFields(&agentpb.UpdateStatsRequest{}, "worktally"))
	checkTimes(t, s)
}

func ours(s *wiretest.Server, name string) []proto.Message {
	var messages []proto.Message
	for _, c := range s.Calls(name) {
		messages = append(messages, c.Request)
	}
	return messages
}

// withoutCron leaves out what the scheduled script wrote.
func withoutCron(messages []proto.Message, manifest *agentpb.Manifest) []proto.Message {
	return slices.DeleteFunc(slices.Clone(messages), func(m proto.Message) bool {
		return slices.ContainsFunc(manifest.GetScripts(), func(s *agentpb.WorkspaceAgentScript) bool {
			return s.GetCron() != "" && string(s.GetLogSourceId()) == string(m.(*agentpb.BatchCreateLogsRequest).GetLogSourceId())
		})
	})
}

// logsOf are the lines by source: how they are cut into batches depends on time.
func logsOf(messages []proto.Message) map[string][]string {
	lines := make(map[string][]string)
	for _, m := range messages {
		batch := m.(*agentpb.BatchCreateLogsRequest)
		for _, l := range batch.GetLogs() {
			source := string(batch.GetLogSourceId())
			lines[source] = append(lines[source], l.GetLevel().String()+" "+l.GetOutput())
		}
	}
	return lines
}

// timingsOf are the timings of start and stop by script, which run in parallel.
func timingsOf(messages []proto.Message) map[string]*agentpb.Timing {
	timings := make(map[string]*agentpb.Timing)
	for _, m := range messages {
		if timing := m.(*agentpb.WorkspaceAgentScriptCompletedRequest).GetTiming(); timing.GetStage() != agentpb.Timing_CRON {
			timings[string(timing.GetScriptId())] = timing
		}
	}
	return timings
}

// metadataOf are the first results by key. The values of two items are the time
// and the load: of those only the shape is kept.
func metadataOf(requests []*agentpb.BatchUpdateMetadataRequest) map[string]string {
	results := make(map[string]string)
	for _, r := range requests {
		for _, m := range r.GetMetadata() {
			value := m.GetResult().GetValue()
			if m.GetKey() == "date" || m.GetKey() == "load" {
				value = strings.Map(func(r rune) rune {
					if r >= '0' && r <= '9' {
						return -1
					}
					return r
				}, value)
			}
			if _, known := results[m.GetKey()]; !known {
				results[m.GetKey()] = value + "|" + m.GetResult().GetError()
			}
		}
	}
	return results
}

// checkTimes: what was excepted from the comparison still has to be there.
func checkTimes(t *testing.T, s *wiretest.Server) {
	t.Helper()
	for _, c := range s.Calls() {
		ok := true
		switch r := c.Request.(type) {
		case *agentpb.UpdateLifecycleRequest:
			ok = r.GetLifecycle().GetChangedAt().IsValid()
		case *agentpb.BatchCreateLogsRequest:
			for _, l := range r.GetLogs() {
				ok = ok && l.GetCreatedAt().IsValid()
			}
		case *agentpb.WorkspaceAgentScriptCompletedRequest:
			ok = r.GetTiming().GetStart().IsValid() && !r.GetTiming().GetEnd().AsTime().Before(r.GetTiming().GetStart().AsTime())
		case *agentpb.BatchUpdateMetadataRequest:
			for _, m := range r.GetMetadata() {
				ok = ok && m.GetResult().GetCollectedAt().IsValid()
			}
		}
		if !ok {
			t.Errorf("%s: a time is missing: %v", c.Name, c.Request)
		}
	}
}
