package agentapi

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/loginlimit"
	"github.com/worktally/worktally/server/audit"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/gitauth"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// Catalog is what the service needs to know and to write down about agents.
type Catalog interface {
	AgentByToken(ctx context.Context, token string) (catalog.Identity, error)
	SetConnected(ctx context.Context, agentID uuid.UUID, apiVersion string, at time.Time) error
	Heartbeat(ctx context.Context, agentIDs []uuid.UUID, at time.Time) error
	SetDisconnected(ctx context.Context, agentIDs []uuid.UUID, at time.Time) error
	AgentLog
}

// AgentLog is what agents tell about themselves.
type AgentLog interface {
	SetStartup(ctx context.Context, agentID uuid.UUID, version, expandedDirectory string, subsystems []agentpb.Startup_Subsystem) error
	SetLifecycle(ctx context.Context, agentID uuid.UUID, state agentpb.Lifecycle_State, changedAt time.Time) error
	SetAppHealth(ctx context.Context, agentID uuid.UUID, updates []catalog.AppHealth) error
	SetMetadata(ctx context.Context, agentID uuid.UUID, values []catalog.MetadataValue) error
	AppendLogs(ctx context.Context, agentID uuid.UUID, lines []catalog.LogLine) (overflowed bool, err error)
	AddLogSource(ctx context.Context, agentID uuid.UUID, s catalog.LogSource) (catalog.LogSource, error)
	AddScriptTiming(ctx context.Context, agentID uuid.UUID, t catalog.ScriptTiming) error
	AddConnection(ctx context.Context, agentID uuid.UUID, e catalog.Connection) error
	SetResourcesUsage(ctx context.Context, agentID uuid.UUID, newest *agentpb.PushResourcesMonitoringUsageRequest_Datapoint) error
}

// Ledger keeps the totals.
type Ledger interface {
	Commit(ctx context.Context, s ledger.Submission) (ledger.Outcome, error)
	LastSequence(ctx context.Context, workspaceID uuid.UUID, agentName string, epoch uuid.UUID) (uint64, error)
}

// Publisher shows on the server's page what was committed.
type Publisher interface {
	// Reported is called after each commit, in the order of commits of an agent.
	// known is when the identity was read, at the latest.
	Reported(id catalog.Identity, known time.Time, outcome ledger.Outcome)
	// AgentChanged is called when an agent's connection, lifecycle or app health
	// has changed.
	AgentChanged()
	// AgentBegan is called when a session of the agent began here, which is its
	// newest then, on whatever server the others are. The identity is from before
	// that, and was read at known, at the latest.
	AgentBegan(ctx context.Context, id catalog.Identity, known time.Time)
	// AgentOff is called when an agent's lifecycle has ended: its series end.
	AgentOff(workspaceID uuid.UUID, agentName string)
	// WorkspaceChanged is called when a session is under a name that the workspace had
	// before: the series of the workspace end.
	WorkspaceChanged(workspaceID uuid.UUID)
}

// Options of a Service. All but Log, Audit, the intervals, CollectOverlay, Now and Git
// are required.
type Options struct {
	Catalog   Catalog
	Ledger    Ledger
	Publisher Publisher
	// Table says which families agents may send.
	Table *exposition.Table
	// Tailnet returns the Tailnet service for one session of an agent. It may end
	// the session.
	Tailnet func(agentID uuid.UUID, end context.CancelCauseFunc) tailnetpb.DRPCTailnetServer
	// DERPMap returns the relay map for manifests. It must have home params.
	DERPMap func() *tailnetpb.DERPMap
	// BlockDirect keeps agents on relays, ForceWebsockets makes them reach relays
	// by websocket.
	BlockDirect, ForceWebsockets bool
	Log                          *slog.Logger
	// Audit takes down who connects; nil does not.
	Audit *audit.Log
	// ReportInterval is what agents are told; 0 means 30 s.
	ReportInterval time.Duration
	// PingInterval is the liveness period; 0 means 15 s.
	PingInterval time.Duration
	// CollectOverlay lets the overlay library's metrics of stock agents in, about
	// a hundred series for each.
	CollectOverlay bool
	// Now is the wall clock, for what is stored; nil means time.Now.
	Now func() time.Time
	// Git keeps what git in workspaces needs. Nil means that there is nothing.
	Git *gitauth.Service
}

// Service serves agents. Its methods are safe for concurrent use.
type Service struct {
	o          Options
	log        *slog.Logger
	sessions   *sessions
	heartbeats *heartbeats
	late       *lateWrites
	dynamic    *dynamicFamilies
	methods    *wire.Methods
	// beginning has a place for each session that is being begun.
	beginning chan struct{}
	limiter   *loginlimit.Limiter
	c         *counts
}

// maxBeginning bounds them: when all agents come back at once most wait, with
// little memory, and the listener is served. Its queue is short, and who finds no
// place in it is back only after half a minute.
const maxBeginning = 128

// The bounds of agents' invalid tokens; see loginlimit. An agent whose workspace is
// gone asks again every 10 s for as long as it lives, and fifty of those behind one
// address must not keep a new agent out.
const (
	failureBurst = 200
	failureEvery = 200 * time.Millisecond
	maxGood      = 1 << 16
)

// New returns a service. Nothing runs before Run.
func New(o Options) (*Service, error) {
	if o.Catalog == nil || o.Ledger == nil || o.Publisher == nil || o.Table == nil || o.Tailnet == nil || o.DERPMap == nil {
		return nil, errors.New("Catalog, Ledger, Publisher, Table, Tailnet and DERPMap are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ReportInterval <= 0 {
		o.ReportInterval = 30 * time.Second
	}
	if o.PingInterval <= 0 {
		o.PingInterval = 15 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	methods, err := wire.NewMethods(agentpb.DRPCAgentDescription{}, tailnetpb.DRPCTailnetDescription{})
	if err != nil {
		return nil, err
	}
	open, c := newSessions(), newCounts()
	late := newLateWrites(c)
	return &Service{
		o: o, log: o.Log, sessions: open, c: c, late: late, dynamic: newDynamicFamilies(), methods: methods,
		beginning: make(chan struct{}, maxBeginning),
		limiter:   loginlimit.New(loginlimit.Options{Burst: failureBurst, Every: failureEvery, MaxGood: maxGood}),
		heartbeats: &heartbeats{
			catalog: o.Catalog, late: late, log: o.Log, clock: newJumps(o.Now), connected: open.connected, everybody: open.monitored, changed: o.Publisher.AgentChanged,
			alive: make(map[uuid.UUID]struct{}), gone: make(map[uuid.UUID]struct{}),
		},
	}, nil
}

// Run writes heartbeats until the context ends, and then the last ones.
func (s *Service) Run(ctx context.Context) error {
	s.heartbeats.run(ctx)
	return nil
}

// Drop ends the sessions of an agent whose token is no longer valid.
func (s *Service) Drop(agentID uuid.UUID) { s.sessions.drop(agentID) }

// Close ends all sessions, waits for them and refuses new ones.
func (s *Service) Close() { s.sessions.close() }

// Connected says whether the agent has a session with this process.
func (s *Service) Connected(agentID uuid.UUID) bool { return s.sessions.connected(agentID) }

var (
	errDropped    = errors.New("the agent's token is no longer valid")
	errServerStop = errors.New("the server is stopping")
	errTooMany    = errors.New("the agent has too many sessions")
)
