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

// Ledger tells what was committed before this process started or by another one,
// and the totals of the deployment.
type Ledger interface {
	Load(ctx context.Context, fn func(ledger.Latest) error) error
	LoadOne(ctx context.Context, workspaceID uuid.UUID, agentName string) (latest ledger.Latest, known bool, err error)
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
	// Now is the wall clock, for what is compared with stored times; nil means
	// time.Now.
	Now func() time.Time
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

	// started is what instants are counted from.
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
	// off tells the same of agents whose lifecycle has ended.
	off map[agentKey]time.Time
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
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Limits = o.Limits.withDefaults()
	o.HeartbeatTimeout = max(o.HeartbeatTimeout, minHeartbeatTimeout)
	p := &Publisher{
		o: o, log: o.Log, changed: make(chan struct{}, 1), started: time.Now(),
		agents: newAgents(), changes: make(map[uuid.UUID]time.Time), off: make(map[agentKey]time.Time), began: make(map[agentKey]struct{}), rejected: make(map[string]uint64),
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
		if !ended(s.State.Lifecycle) && !p.isElsewhere(s.State) { // its series ended before the restart
			names[agentKey{s.WorkspaceID, s.AgentName}] = namesOf(s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	began := time.Now()
	err = p.o.Ledger.Load(ctx, func(l ledger.Latest) error {
		if n, known := names[agentKey{l.WorkspaceID, l.AgentName}]; known {
			p.putStored(n, began, l)
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

func namesIn(id catalog.Identity) exposition.Names {
	return exposition.Names{
		AgentName: id.Agent.Name, Username: id.Owner.Username, WorkspaceName: id.Workspace.Name, TemplateName: id.Workspace.Template.Name,
	}
}

// Reported implements agentapi.Publisher.
func (p *Publisher) Reported(id catalog.Identity, known time.Time, outcome ledger.Outcome) {
	// Totals that an older session delivered change what is shown, and neither bring
	// back nor prolong it.
	arrived, shown, when := p.now(), true, always
	if !outcome.Newest {
		when = ifShown
		arrived, shown = p.arrivedLast(agentKey{id.Workspace.ID, id.Agent.Name})
	}
	if shown {
		p.put(namesIn(id), known, outcome.Latest, arrived, when)
	}
	p.committed.Store(true)
}

// arrivedLast returns when the newest report of what is shown of an agent came.
func (p *Publisher) arrivedLast(k agentKey) (at instant, shown bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	e := p.agents.get(k)
	if e == nil {
		return 0, false
	}
	return e.arrived, true
}

// putStored shows what the ledger has of an agent, unless it has ended or a report
// was faster.
func (p *Publisher) putStored(names exposition.Names, known time.Time, l ledger.Latest) {
	// The clock may have been changed since. Nothing has yet to arrive.
	now := p.now()
	arrived := now - instant(max(0, p.wall().Sub(l.Arrival)))
	if now < arrived+lifetime(l) {
		p.put(names, known, l, arrived, ifNotShown)
	}
}

// when says when a state is shown: the newest one always, what is not the newest does
// not bring back what has ended, and what is stored replaces nothing.
type when uint8

const (
	always when = iota
	ifShown
	ifNotShown
)

// put shows the latest state of an agent, whose newest report has arrived then. The
// identity must have been known after its workspace last changed: what is older
// shows nothing.
func (p *Publisher) put(names exposition.Names, known time.Time, l ledger.Latest, arrived instant, w when) {
	fresh, refused := p.build(names, l, arrived)
	p.mu.Lock()
	defer p.mu.Unlock()
	for reason, n := range refused {
		p.rejected[reason] += n
	}
	if at, changed := p.changes[l.WorkspaceID]; changed && !known.After(at) {
		return
	}
	if at, off := p.off[fresh.key]; off && !known.After(at) {
		return
	}
	if _, elsewhere := p.elsewhere[fresh.key]; elsewhere {
		return
	}
	if shown := p.agents.get(fresh.key) != nil; w == always || shown == (w == ifShown) {
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
func (p *Publisher) AgentBegan(ctx context.Context, id catalog.Identity, known time.Time) {
	k := agentKey{id.Workspace.ID, id.Agent.Name}
	p.mu.Lock()
	delete(p.elsewhere, k)
	p.began[k] = struct{}{}
	p.mu.Unlock()
	p.AgentChanged()
	if p.isElsewhere(id.Agent.State) && !ended(id.Agent.State.Lifecycle) {
		p.takeOver(ctx, id, known)
	}
}

// takeOver shows what another server showed of an agent until its session began here.
// That one hands it over at once, and the next report may be half a minute away.
func (p *Publisher) takeOver(ctx context.Context, id catalog.Identity, known time.Time) {
	ctx, cancel := context.WithTimeout(ctx, takeOverTimeout)
	defer cancel()
	l, reported, err := p.o.Ledger.LoadOne(ctx, id.Workspace.ID, id.Agent.Name)
	if err != nil {
		p.log.Warn("read what another server showed of an agent; its next report is shown",
			"workspace", id.Workspace.Name, "agent", id.Agent.Name, "err", err)
		return
	}
	if reported {
		p.putStored(namesIn(id), known, l)
	}
}

// isElsewhere says whether another server holds the agent's newest session.
func (p *Publisher) isElsewhere(s catalog.AgentState) bool {
	return s.Replica != "" && s.Replica != p.o.Replica
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

// AgentOff implements agentapi.Publisher. Nor does a report that is still being stored
// bring the series back.
func (p *Publisher) AgentOff(workspaceID uuid.UUID, agentName string) {
	k := agentKey{workspaceID, agentName}
	p.mu.Lock()
	p.off[k] = time.Now()
	p.agents.remove(k)
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
