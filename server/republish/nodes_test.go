package republish

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// TestNodes: the server with the agent says what it shows of the node, once, and
// again if that failed; the others show what it said.
func TestNodes(t *testing.T) {
	mine, theirs := status(identity("mine")), status(identity("theirs"))
	mine.State.Replica, theirs.State.Replica = "here", "there"
	theirs.State.TailnetNode = "nodeid:b"
	s := &store{statuses: []catalog.AgentStatus{mine, theirs}}
	node, failed := &tailnetpb.Node{Id: 10}, error(nil)
	var said []map[uuid.UUID]string
	p := newPublisher(t, s, func(o *Options) {
		o.Replica = "here"
		o.Node = func(id uuid.UUID) *tailnetpb.Node {
			if id == mine.AgentID {
				return node
			}
			return &tailnetpb.Node{Id: 99} // an old one
		}
		o.Announce = func(_ context.Context, nodes map[uuid.UUID]string) error {
			said = append(said, nodes)
			return failed
		}
	})
	say := func(want string) {
		t.Helper()
		said = nil
		must(t, p.refreshStates(t.Context()))
		if len(said) != 1 || len(said[0]) != 1 || said[0][mine.AgentID] != want {
			t.Fatalf("it said %v, want %q", said, want)
		}
		s.statuses[0].State.TailnetNode = want
		must(t, p.refreshStates(t.Context()))
		if len(said) != 1 {
			t.Errorf("it said more: %v", said)
		}
	}
	shown := func(workspace, node string) {
		t.Helper()
		for name := range samples(t, p) {
			if strings.HasPrefix(name, "coderd_agents_connections{") && strings.Contains(name, `workspace_name="`+workspace+`"`) {
				if !strings.Contains(name, `tailnet_node="`+node+`"`) {
					t.Errorf("%s, want node %s", name, node)
				}
				return
			}
		}
		t.Errorf("%s is not shown", workspace)
	}
	failed = errors.New("no database")
	if err := p.refreshStates(t.Context()); !errors.Is(err, failed) {
		t.Errorf("error %v", err)
	}
	failed = nil
	say("nodeid:a")
	shown("mine", "nodeid:a")
	shown("theirs", "nodeid:b")
	node = nil
	say("")
	shown("mine", "unknown")
}
