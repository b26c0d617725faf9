package wiretest

import (
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// NewManifest returns the manifest of an agent without scripts, apps and
// metadata.
func NewManifest() *agentpb.Manifest {
	agent, workspace := uuid.New(), uuid.New()
	return &agentpb.Manifest{
		AgentId: agent[:], WorkspaceId: workspace[:],
		AgentName: "main", OwnerUsername: "owner", WorkspaceName: "workspace",
		DerpMap: &tailnetpb.DERPMap{HomeParams: &tailnetpb.DERPMap_HomeParams{}},
	}
}

// AddScript adds a script to a manifest and returns it.
func AddScript(m *agentpb.Manifest, script string, change func(*agentpb.WorkspaceAgentScript)) *agentpb.WorkspaceAgentScript {
	id, source := uuid.New(), uuid.New()
	s := &agentpb.WorkspaceAgentScript{Id: id[:], LogSourceId: source[:], Script: script, Timeout: durationpb.New(0)}
	change(s)
	m.Scripts = append(m.Scripts, s)
	return s
}
