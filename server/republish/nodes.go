package republish

import (
	"context"
	"strconv"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// maxAnnounced bounds the nodes that one refresh of the states announces: it waits
// for them.
const maxAnnounced = 1000

// nodes finds what is shown of the nodes of agents during one refresh. Only the
// server with an agent's newest session knows its node; the others show what that
// one announced, so that all show alike.
type nodes struct {
	p   *Publisher
	new map[uuid.UUID]string // what the others do not know yet
}

// label returns the value of the label for an agent and its node, which may be nil.
func (n *nodes) label(s catalog.AgentStatus, node *tailnetpb.Node) string {
	if n.p.isElsewhere(s.State) {
		return orUnknown(s.State.TailnetNode)
	}
	name := nodeName(node)
	if n.p.o.Announce != nil && name != s.State.TailnetNode && len(n.new) < maxAnnounced {
		n.new[s.AgentID] = name
	}
	return orUnknown(name)
}

// announce tells the others.
func (n *nodes) announce(ctx context.Context) error {
	if len(n.new) == 0 {
		return nil
	}
	return n.p.o.Announce(ctx, n.new)
}

// nodeName is empty if there is no node.
func nodeName(node *tailnetpb.Node) string {
	if node == nil {
		return ""
	}
	return "nodeid:" + strconv.FormatInt(node.GetId(), 16)
}
