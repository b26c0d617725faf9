package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/controlapi"
)

// replicaKeyFile makes a server the same replica after a restart, so that it goes on
// showing the agents that report to it.
const replicaKeyFile = "replica-id"

// tellTimeout bounds how long a change of a workspace waits for a database that has
// just stored it.
const tellTimeout = 5 * time.Second

// nameReplica names this server among those that share its database. The only one
// has no name.
func (s *Server) nameReplica() error {
	if s.db.Dialect() == sqldb.SQLite {
		return nil
	}
	id, err := s.key(replicaKeyFile)
	if err != nil {
		return err
	}
	if id == nil {
		id = make([]byte, 8)
		_, _ = rand.Read(id) // never fails
	}
	s.replica = hex.EncodeToString(id[:8])
	return nil
}

// watchReplicas hands agents over to other replicas as soon as these have them, and
// ends here what they have changed.
func (s *Server) watchReplicas(ctx context.Context) error {
	s.catalog.WatchReplicas(ctx, catalog.Watch{
		States: s.publisher.AgentChanged,
		Changed: func(n catalog.WorkspaceNotice) {
			s.endOld(n)
			s.people.ChangedElsewhere(n.Deleted, n.Agents, n.Revoked)
		},
		Token: func(n catalog.TokenNotice) {
			if n.Username != "" {
				s.people.UserChangedElsewhere(n.Username)
			}
			if n.Agent != uuid.Nil {
				s.agents.Recheck(ctx, n.Agent)
			}
		},
		Events: s.rollup.Stale,
		Again: func() {
			s.rollup.Stale()
			s.agents.RecheckAll(ctx)
			s.people.Recheck(ctx)
		},
	})
	return nil
}

// announceNodes returns what tells other replicas of nodes, nil if there are none.
func (s *Server) announceNodes() func(context.Context, map[uuid.UUID]string) error {
	if s.replica == "" {
		return nil
	}
	return s.catalog.SetTailnetNodes
}

// tellOfEvents makes other replicas refresh what is made of builds.
func (s *Server) tellOfEvents(ctx context.Context) {
	telling, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	if err := s.catalog.TellOfEvents(telling); err != nil && ctx.Err() == nil {
		s.log.Warn("tell other replicas of builds; they see them within a minute", "err", err)
	}
}

// endOld ends what belonged to the old state of a workspace here: series end, and
// agents connect again with what is valid now.
func (s *Server) endOld(n catalog.WorkspaceNotice) {
	s.publisher.WorkspaceChanged(n.Workspace)
	s.rollup.Stale()                // the others hear of n
	s.coordinator.End(n.Revoked...) // clients are cut off at once
	for _, id := range slices.Concat(n.Revoked, n.Agents) {
		s.agents.Drop(id)
	}
}

// tokenChanged lets sessions end with the token that was replaced, on all replicas.
func (s *Server) tokenChanged(n catalog.TokenNotice) {
	ctx, cancel := context.WithTimeout(context.Background(), tellTimeout)
	defer cancel()
	if n.Agent != uuid.Nil {
		s.agents.Recheck(ctx, n.Agent)
	}
	if err := s.catalog.TellOfToken(ctx, n); err != nil {
		s.log.Error("tell other replicas of a token", "err", err)
	}
}

// workspaceChanged ends what belonged to the old state of a workspace at once, on all
// replicas.
func (s *Server) workspaceChanged(c controlapi.Change) {
	n := catalog.WorkspaceNotice{Workspace: c.Workspace.ID, Revoked: c.Revoked, Deleted: c.Deleted}
	for _, agent := range c.Workspace.Agents {
		n.Agents = append(n.Agents, agent.ID)
	}
	s.endOld(n)
	// The change was made, whether or not its caller is still there. Whom it does not
	// reach ends the old state when it listens again.
	ctx, cancel := context.WithTimeout(context.Background(), tellTimeout)
	defer cancel()
	if err := s.catalog.TellOfWorkspace(ctx, n); err != nil {
		s.log.Error("tell other replicas of a change", "workspace", c.Workspace.Name, "err", err)
	}
	if c.Deleted {
		// What is left in the ledger costs only space.
		if err := s.ledger.ForgetWorkspace(context.Background(), c.Workspace.ID); err != nil {
			s.log.Warn("forget the reports of a deleted workspace", "workspace", c.Workspace.Name, "err", err)
		}
	}
}
