package republish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/wire/tailnetpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// Catalog tells the state of all agents.
type Catalog interface {
	AgentStatuses(ctx context.Context, fn func(catalog.AgentStatus) error) error
}

// Ledger tells what was committed before this process started, and the totals
// of the deployment.
type Ledger interface {
	Load(ctx context.Context, fn func(ledger.Latest) error) error
	DeploymentTotals(ctx context.Context) ([]*worktallypb.Series, error)
}

// Options of a Publisher.
type Options struct {
	Catalog Catalog           // required
	Ledger  Ledger            // required
	Table   *exposition.Table // required
	// CollectAgentStats shows what agents report; otherwise only their state is.
	CollectAgentStats bool
	// Own adds the families of other parts of the server.
	Own func(*exposition.Builder)
	// Deployment returns more rows of what every replica shows alike. They and their
	// slice are only read. It must not block. Nil means that there are none.
	Deployment func() []*exposition.Row
	// Registerer takes the families about the publisher itself; nil means nobody.
	Registerer prometheus.Registerer
	// Labels chooses among the names of those families, where the published and the
	// real ones differ.
	Labels exposition.LabelMode
	Limits Limits
	// Replica is the name of this server among those that share the database, as the
	// catalog has it.
	Replica string
	// Node returns the node that an agent announced on the tailnet, nil if there is
	// none. Nil means that none is ever known.
	Node func(agentID uuid.UUID) *tailnetpb.Node
	// Announce tells the other servers what this one shows of nodes: they show the
	// same. Nil means that there are no others.
	Announce func(ctx context.Context, nodes map[uuid.UUID]string) error
	// RelayMap names the regions of relays. Nil means that all are without a name.
	RelayMap func() *tailnetpb.DERPMap
	Log      *slog.Logger
	// ByteWindow is the span of the rx and tx gauges; 0 means 60 s, which is the
	// most that the ledger keeps.
	ByteWindow time.Duration
	// HeartbeatTimeout is after how long a silent agent is disconnected; 0 means
	// 30 s, and it is never less than 3 s.
	HeartbeatTimeout time.Duration
}

// minHeartbeatTimeout leaves time to write a heartbeat down.
const minHeartbeatTimeout = 3 * time.Second

// Publisher holds the page. Its methods are safe for concurrent use.
type Publisher struct {
	o   Options
	log *slog.Logger
	// table grows by the families that agents bring.
	table atomic.Pointer[exposition.Table]
	// states and deployment are replaced as a whole.
	states     atomic.Pointer[[]*exposition.Row]
	deployment atomic.Pointer[exposition.Row]
	changed    chan struct{} // holds one signal: the states are stale
	committed  atomic.Bool   // the deployment's totals are stale

	// broken are the nodes with latencies that are not shown, nextState is when the
	// states change by time alone; only refreshStates and Run look at them.
	broken    map[uuid.UUID]*tailnetpb.Node
	nextState time.Time

	// started is when this process took over: no agent is connected since before.
	started time.Time
	// refreshes observe how long the states take.
	refreshes []prometheus.Observer

	// mu guards what follows. An entry is immutable; changing it means replacing
	// it.
	mu     sync.RWMutex
	agents *agents
	// changes tells when a workspace last changed, for as long as a report that
	// was under way then may still arrive.
	changes map[uuid.UUID]time.Time
	// elsewhere are the agents whose newest session another server holds, as far as
	// is known. Their reports are that server's to show.
	elsewhere map[agentKey]struct{}
	// began are the agents whose sessions began here since the states were last read:
	// what was read may be older.
	began    map[agentKey]struct{}
	rejected map[string]uint64
}

// New returns a publisher with an empty page.
func New(o Options) (*Publisher, error) {
	if o.Catalog == nil || o.Ledger == nil || o.Table == nil {
		return nil, errors.New("Catalog, Ledger and Table are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ByteWindow > time.Minute {
		return nil, fmt.Errorf("byte window %s is longer than 1m", o.ByteWindow)
	}
	if o.ByteWindow <= 0 {
		o.ByteWindow = time.Minute
	}
	if o.Node == nil {
		o.Node = func(uuid.UUID) *tailnetpb.Node { return nil }
	}
	if o.RelayMap == nil {
		o.RelayMap = func() *tailnetpb.DERPMap { return nil }
	}
	if o.HeartbeatTimeout <= 0 {
		o.HeartbeatTimeout = 30 * time.Second
	}
	o.Limits = o.Limits.withDefaults()
	o.HeartbeatTimeout = max(o.HeartbeatTimeout, minHeartbeatTimeout)
	p := &Publisher{
		o: o, log: o.Log, changed: make(chan struct{}, 1), started: time.Now(),
		agents: newAgents(), changes: make(map[uuid.UUID]time.Time), began: make(map[agentKey]struct{}), rejected: make(map[string]uint64),
	}
	for _, reason := range reasons() {
		p.rejected[reason] = 0
	}
	var err error
	if p.refreshes, err = newRefreshes(o.Registerer, o.Labels); err != nil {
		return nil, err
	}
	p.table.Store(o.Table)
	return p, nil
}

// Rebuild fills the page from the ledger and the catalog. Call it before Run.
func (p *Publisher) Rebuild(ctx context.Context) error {
	names := make(map[agentKey]exposition.Names)
	err := p.o.Catalog.AgentStatuses(ctx, func(s catalog.AgentStatus) error {
		if !ended(s.State.Lifecycle) && !p.isElsewhere(s) { // its series ended before the restart
			names[agentKey{s.WorkspaceID, s.AgentName}] = namesOf(s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	now := time.Now()
	err = p.o.Ledger.Load(ctx, func(l ledger.Latest) error {
		n, known := names[agentKey{l.WorkspaceID, l.AgentName}]
		if known && now.Before(expiry(l)) {
			p.put(n, now, l, true)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := p.refreshStates(ctx); err != nil {
		return err
	}
	return p.refreshDeployment(ctx)
}

func namesOf(s catalog.AgentStatus) exposition.Names {
	return exposition.Names{AgentName: s.AgentName, Username: s.OwnerName, WorkspaceName: s.WorkspaceName, TemplateName: s.Template.Name}
}

// Reported implements agentapi.Publisher.
func (p *Publisher) Reported(id catalog.Identity, known time.Time, outcome ledger.Outcome) {
	p.put(exposition.Names{
		AgentName: id.Agent.Name, Username: id.Owner.Username, WorkspaceName: id.Workspace.Name, TemplateName: id.Workspace.Template.Name,
	}, known, outcome.Latest, outcome.Newest)
	p.committed.Store(true)
}

// put shows the latest state of an agent. The identity must have been known
// after its workspace last changed: what is older shows nothing. Totals that an
// older session delivered change what is shown, and do not bring back what has
// ended.
func (p *Publisher) put(names exposition.Names, known time.Time, l ledger.Latest, newest bool) {
	fresh, refused := p.build(names, l, time.Now())
	p.mu.Lock()
	defer p.mu.Unlock()
	for reason, n := range refused {
		p.rejected[reason] += n
	}
	if at, changed := p.changes[l.WorkspaceID]; changed && !known.After(at) {
		return
	}
	if _, elsewhere := p.elsewhere[fresh.key]; elsewhere {
		return
	}
	if newest || p.agents.get(fresh.key) != nil {
		p.showLocked(fresh)
	}
}

// showLocked replaces an agent's entry, if the page has room for it.
func (p *Publisher) showLocked(fresh *entry) {
	p.agents.remove(fresh.key)
	n := int64(fresh.row.Len())
	if p.agents.series+n > p.o.Limits.Series || p.agents.text+int64(fresh.row.TextSize()) > p.o.Limits.Bytes {
		p.rejected[rejectedFull] += uint64(n)
		return
	}
	p.agents.put(fresh)
}

// AgentBegan implements agentapi.Publisher: the agent's newest session is here now.
func (p *Publisher) AgentBegan(workspaceID uuid.UUID, agentName string) {
	k := agentKey{workspaceID, agentName}
	p.mu.Lock()
	delete(p.elsewhere, k)
	p.began[k] = struct{}{}
	p.mu.Unlock()
	p.AgentChanged()
}

// isElsewhere says whether another server holds the agent's newest session.
func (p *Publisher) isElsewhere(s catalog.AgentStatus) bool {
	return s.State.Replica != "" && s.State.Replica != p.o.Replica
}

// handOver ends what this server shows of agents that report to another one.
func (p *Publisher) handOver(elsewhere map[agentKey]struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.began {
		delete(elsewhere, k)
	}
	p.elsewhere = elsewhere
	for k := range elsewhere {
		p.agents.remove(k)
	}
}

// AgentChanged implements agentapi.Publisher.
func (p *Publisher) AgentChanged() {
	select {
	case p.changed <- struct{}{}:
	default: // it is known already
	}
}

// AgentOff implements agentapi.Publisher.
func (p *Publisher) AgentOff(workspaceID uuid.UUID, agentName string) {
	p.mu.Lock()
	p.agents.remove(agentKey{workspaceID, agentName})
	p.mu.Unlock()
}

// WorkspaceChanged ends the series of a workspace that was renamed, changed or
// deleted; what is still there reports again under its new identity. Reports of
// sessions that began before are not shown, so the caller must end them.
func (p *Publisher) WorkspaceChanged(workspaceID uuid.UUID) {
	p.mu.Lock()
	p.changes[workspaceID] = time.Now()
	for k := range p.agents.index {
		if k.workspace == workspaceID {
			p.agents.remove(k)
		}
	}
	p.mu.Unlock()
	p.AgentChanged()
}
