package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	ours "github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/coding"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/server/republish"
	"github.com/worktally/worktally/wire/worktallypb"
)

// wholePage is the server's own page with as many agents: whatever it shows of
// each, zeros included, and what its publisher keeps for that.
func wholePage(o options) (func() (int, error), error) {
	p, err := republish.New(republish.Options{Catalog: nothing{}, Ledger: nothing{}, Table: ours.NewTable(), CollectAgentStats: true})
	if err != nil {
		return nil, err
	}
	for i := range o.agents {
		names := identity(i)
		known := catalog.Identity{
			Agent: catalog.Agent{Name: names[0]}, Owner: catalog.User{Username: names[1]},
			Workspace: catalog.Workspace{ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)), Name: names[2], Template: catalog.Template{Name: names[3]}},
		}
		p.Reported(known, time.Now(), ledger.Outcome{Newest: true, Latest: latest(known, i)})
	}
	h := ours.NewHandler(ours.HandlerOptions{Page: p.Page, Registry: prometheus.NewRegistry(), Codings: coding.All(), Parts: true})
	return func() (int, error) { return get(h, textAccept, "identity") }, nil
}

// latest is the report of an agent with the values of perAgent.
func latest(id catalog.Identity, i int) ledger.Latest {
	now := time.Now()
	l := ledger.Latest{
		WorkspaceID: id.Workspace.ID, AgentName: id.Agent.Name, End: now, Arrival: now, Interval: time.Hour,
		Gauges: &worktallypb.Gauges{Sessions: []*worktallypb.OpenSessions{{AppName: "vscode", Count: 1}}},
		Recent: []ledger.RecentWindow{{End: now, RxBytes: uint64(i) * 1234, TxBytes: uint64(i) * 567}},
	}
	for _, s := range perAgent() {
		if !s.template {
			continue // the publisher makes these itself
		}
		one := &worktallypb.Series{Name: s.name, Value: s.value(i)}
		if s.label[0] != "" {
			one.Labels = s.label[:]
		}
		if s.counter {
			l.Totals = append(l.Totals, one)
		} else {
			l.Gauges.Series = append(l.Gauges.Series, one)
		}
	}
	return l
}

// nothing is a catalog and a ledger that are empty.
type nothing struct{}

func (nothing) AgentStatuses(context.Context, func(catalog.AgentStatus) error) error { return nil }
func (nothing) Load(context.Context, func(ledger.Latest) error) error                { return nil }
func (nothing) LoadOne(context.Context, uuid.UUID, string) (ledger.Latest, bool, error) {
	return ledger.Latest{}, false, nil
}
func (nothing) DeploymentTotals(context.Context) ([]*worktallypb.Series, error) { return nil, nil }
