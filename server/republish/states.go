package republish

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/retry"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
)

const (
	// refreshAtLeast: states also change by time alone.
	refreshAtLeast = 5 * time.Second
	// refreshPause and refreshShare bound the load of many changes at once: after
	// a refresh there is a pause, four times as long as it took if that is more.
	refreshPause = 200 * time.Millisecond
	refreshShare = 4
	// changeMemory is longer than a report can be under way.
	changeMemory = 5 * time.Minute
	// readTimeout bounds one reading of the database: its host may be gone without
	// a word, and the next reading finds another one.
	readTimeout = 30 * time.Second
	// takeOverTimeout is shorter: a session waits for that reading.
	takeOverTimeout = 3 * time.Second
	// connectTimeout is how long an agent may take to connect for the first time.
	connectTimeout = 2 * time.Minute
)

// Run keeps the states of agents and the totals of the deployment fresh until
// the context ends.
func (p *Publisher) Run(ctx context.Context) error {
	quiet := retry.NewLog(p.log, "read the states of agents")
	states := time.NewTimer(p.untilNextState())
	defer states.Stop()
	totals := time.NewTicker(time.Second)
	defer totals.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-totals.C:
			p.sweep(time.Now()) // whether or not somebody scrapes, which then has less to do
			// Others commit too, if there are any.
			if p.committed.Swap(false) || p.o.Replica != "" {
				if err = p.refreshDeployment(ctx); err != nil {
					p.committed.Store(true)
				}
			}
		case <-states.C:
			p.forget(time.Now())
			err = p.refreshAndPause(ctx)
			states.Reset(p.untilNextState())
		case <-p.changed:
			err = p.refreshAndPause(ctx)
			states.Reset(p.untilNextState())
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			quiet.Failed(err)
		default:
			quiet.Succeeded()
		}
	}
}

func (p *Publisher) refreshAndPause(ctx context.Context) error {
	began := time.Now()
	err := p.refreshStates(ctx)
	// If the context has ended, the caller sees it.
	_ = retry.Sleep(ctx, max(refreshPause, refreshShare*time.Since(began)))
	return err
}

// untilNextState is how long the states stay as they are, if nobody says
// otherwise.
func (p *Publisher) untilNextState() time.Duration {
	return min(refreshAtLeast, max(0, p.nextState.Sub(p.wall())))
}

func (p *Publisher) refreshDeployment(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	totals, err := p.o.Ledger.DeploymentTotals(ctx)
	if err != nil {
		return err
	}
	p.deployment.Store(p.deploymentRow(totals))
	return nil
}

// forget drops old changes.
func (p *Publisher) forget(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.changes, func(_ uuid.UUID, at time.Time) bool { return now.Sub(at) > changeMemory })
	maps.DeleteFunc(p.off, func(_ agentKey, at time.Time) bool { return now.Sub(at) > changeMemory })
}

// up is one workspace's series of coderd_agents_up.
type up struct {
	labels []exposition.Label
	agents float64
}

func (p *Publisher) refreshStates(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	began, now := time.Now(), p.wall()
	defer func() {
		for _, o := range p.refreshes {
			o.Observe(time.Since(began).Seconds())
		}
	}()
	var rows []*exposition.Row
	next := now.Add(refreshAtLeast)
	p.nextState = next // unless they can be read
	ups := make(map[uuid.UUID]*up)
	table := p.table.Load()
	regions := p.o.RelayMap().GetRegions()
	elsewhere := make(map[agentKey]struct{})
	p.mu.Lock()
	clear(p.began)
	p.mu.Unlock()
	broken, refused := make(map[uuid.UUID]*tailnetpb.Node), uint64(0)
	nodes := nodes{p, make(map[uuid.UUID]string)}
	err := p.o.Catalog.AgentStatuses(ctx, func(s catalog.AgentStatus) error {
		if p.isElsewhere(s.State) {
			elsewhere[agentKey{s.WorkspaceID, s.AgentName}] = struct{}{}
		}
		status, until := p.status(s, now)
		if until.Before(next) {
			next = until
		}
		if ups[s.WorkspaceID] == nil {
			ups[s.WorkspaceID] = &up{labels: table.Only("coderd_agents_up",
				exposition.Label{Name: "template_name", Value: s.Template.Name}, exposition.Label{Name: "template_version", Value: orUnknown(s.Template.Version)},
				exposition.Label{Name: "username", Value: s.OwnerName}, exposition.Label{Name: "workspace_name", Value: s.WorkspaceName})}
		}
		if status == "connected" {
			ups[s.WorkspaceID].agents++
		}
		node := p.o.Node(s.AgentID)
		b := table.NewBuilder(namesOf(s))
		p.add(b, "coderd_agents_connections", 1,
			exposition.Label{Name: "status", Value: status},
			exposition.Label{Name: "lifecycle_state", Value: lifecycleName(s.State.Lifecycle)},
			exposition.Label{Name: "tailnet_node", Value: nodes.label(s, node)})
		p.addApps(b, s.Apps)
		if n := p.addLatencies(b, node, regions); n > 0 {
			if broken[s.AgentID] = node; p.broken[s.AgentID] != node {
				refused += n // a node is judged each time and counted once
			}
		}
		rows = append(rows, b.Row())
		return nil
	})
	if err != nil {
		return err
	}
	p.handOver(elsewhere)
	p.broken, p.nextState = broken, next
	p.mu.Lock()
	p.rejected[rejectedLatency] += refused
	p.mu.Unlock()
	b := table.NewBuilder(exposition.Names{})
	for _, u := range ups {
		p.add(b, "coderd_agents_up", u.agents, u.labels...)
	}
	rows = append(rows, b.Row())
	p.states.Store(&rows)
	return nodes.announce(ctx)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// status judges a connection by its last heartbeat, at one instant for all, and
// says when the verdict is another one. That a session has ended is known whatever
// the clocks say.
func (p *Publisher) status(a catalog.AgentStatus, now time.Time) (status string, until time.Time) {
	s := a.State
	timeout, silent := a.CreatedAt.Add(connectTimeout), s.LastConnectedAt.Add(p.silence())
	switch far := now.Add(time.Hour); {
	case s.FirstConnectedAt.IsZero() && now.After(timeout):
		return "timeout", far
	case s.FirstConnectedAt.IsZero():
		return "connecting", timeout.Add(time.Nanosecond)
	case !s.DisconnectedAt.IsZero(), now.After(silent):
		return "disconnected", far
	}
	return "connected", silent.Add(time.Nanosecond)
}

// silence is how old a heartbeat may be. It is less than the timeout, because a
// heartbeat is written down up to a second after it came, and the page knows of
// it a pause later.
func (p *Publisher) silence() time.Duration { return p.o.HeartbeatTimeout - p.o.HeartbeatTimeout/15 }

// ended says whether a lifecycle is over.
func ended(s agentpb.Lifecycle_State) bool { return s >= agentpb.Lifecycle_SHUTDOWN_TIMEOUT }

func lifecycleName(s agentpb.Lifecycle_State) string {
	if s == agentpb.Lifecycle_STATE_UNSPECIFIED {
		s = agentpb.Lifecycle_CREATED
	}
	return strings.ToLower(s.String())
}

// addApps counts apps by name and health; names may repeat and then add up.
func (p *Publisher) addApps(b *exposition.Builder, apps []catalog.AppStatus) {
	type key struct{ name, health string }
	counts := make(map[key]float64)
	for _, a := range apps {
		health := a.Health
		if health == agentpb.AppHealth_APP_HEALTH_UNSPECIFIED {
			health = agentpb.AppHealth_DISABLED
		}
		counts[key{a.Name, strings.ToLower(health.String())}]++
	}
	for k, n := range counts {
		p.add(b, "coderd_agents_apps", n, exposition.Label{Name: "app_name", Value: k.name}, exposition.Label{Name: "health", Value: k.health})
	}
}
