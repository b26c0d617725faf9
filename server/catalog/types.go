package catalog

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire/agentpb"
)

// What callers branch on. The errors of the methods wrap them.
var (
	// ErrNotFound: no such user, workspace, agent, app or token.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name is taken.
	ErrExists = errors.New("already exists")
	// ErrForbidden: the caller may not do this to somebody else's property.
	ErrForbidden = errors.New("not allowed")
	// ErrInvalid: the value itself is wrong.
	ErrInvalid = errors.New("invalid")
	// ErrInUse: it cannot go while something depends on it.
	ErrInUse = errors.New("in use")
)

// User is a person.
type User struct {
	ID       uuid.UUID
	Username string
	// Email is empty if it is not known.
	Email     string
	Admin     bool
	CreatedAt time.Time
}

// Workspace is a workspace with its agents, ordered by name.
type Workspace struct {
	ID        uuid.UUID
	Name      string
	OwnerID   uuid.UUID
	OwnerName string
	Template  Template
	CreatedAt time.Time
	Agents    []Agent
}

// Agent is one agent of a workspace.
type Agent struct {
	ID          uuid.UUID
	WorkspaceID uuid.UUID
	Name        string
	Spec        AgentSpec
	State       AgentState
}

// AgentState is what an agent told about itself, and when it was seen. Zero
// times mean never.
type AgentState struct {
	APIVersion         string
	Version            string
	ExpandedDirectory  string
	Subsystems         []agentpb.Startup_Subsystem
	Lifecycle          agentpb.Lifecycle_State
	LifecycleChangedAt time.Time
	StartedAt          time.Time
	ReadyAt            time.Time
	FirstConnectedAt   time.Time
	LastConnectedAt    time.Time
	DisconnectedAt     time.Time
	LogsOverflowed     bool
	// Replica is the server that holds, or held, the newest session.
	Replica string
	// TailnetNode is what that server shows of the node that the agent announced to
	// it; empty if there is none.
	TailnetNode string
}

// Identity is everything about the owner of an agent token that a session and
// the pages need.
type Identity struct {
	Agent     Agent
	Workspace Workspace // Agents is empty
	Owner     User
	// TokenEnds is when the token that was asked about ends, because another one has
	// replaced it; zero if it does not.
	TokenEnds time.Time
}

// Applied is the result of Apply.
type Applied struct {
	Workspace Workspace
	// Created is true if the workspace is new.
	Created bool
	// PreviousName is set if the workspace was renamed.
	PreviousName string
	// Tokens holds the tokens of the agents that are new, by agent name. They
	// cannot be read again.
	Tokens map[string]string
	// Removed are the agents that the new spec no longer has. Their tokens are
	// invalid.
	Removed []Agent
}

// AppHealth is the health of one app.
type AppHealth struct {
	AppID  uuid.UUID
	Health agentpb.AppHealth
}

// MetadataValue is a value that an agent collected.
type MetadataValue struct {
	Key         string
	Value       string
	Error       string
	CollectedAt time.Time // the server's clock
}

// LogLine is one line of output. Level 0 and unknown levels become INFO.
type LogLine struct {
	// Seq orders the lines of an agent; set when read.
	Seq       int64
	SourceID  uuid.UUID
	CreatedAt time.Time // the server's clock
	Level     agentpb.Log_Level
	Output    string
}

// ScriptTiming is one run of a script.
type ScriptTiming struct {
	ScriptID uuid.UUID
	Start    time.Time
	End      time.Time
	ExitCode int32
	Stage    agentpb.Timing_Stage
	Status   agentpb.Timing_Status
}

// Connection is one event of the connection log.
type Connection struct {
	ID         uuid.UUID
	Action     agentpb.Connection_Action
	Type       agentpb.Connection_Type // 0 is allowed
	AppName    string
	IP         string
	StatusCode int32
	Reason     string
	At         time.Time
}

// AgentStatus is one agent's row for the pages that show all agents.
type AgentStatus struct {
	AgentID       uuid.UUID
	AgentName     string
	WorkspaceID   uuid.UUID
	WorkspaceName string
	OwnerName     string
	Template      Template
	// CreatedAt is when the workspace was created.
	CreatedAt time.Time
	State     AgentState
	Apps      []AppStatus
}

// AppStatus is one app of an AgentStatus.
type AppStatus struct {
	// Name is the display name, or the slug if there is none; names may repeat.
	Name   string
	Health agentpb.AppHealth
}
