package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"github.com/worktally/worktally/internal/sqldb"
)

// replicaKeyFile makes a server the same replica after a restart, so that it goes on
// showing the agents that report to it.
const replicaKeyFile = "replica-id"

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

// watchReplicas hands agents over to other replicas as soon as these have them.
func (s *Server) watchReplicas(ctx context.Context) error {
	s.catalog.WatchSessions(ctx, s.publisher.AgentChanged)
	return nil
}
