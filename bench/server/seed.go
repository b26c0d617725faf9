package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/server/catalog"
)

// known is an agent that the server lets in.
type known struct {
	workspace uuid.UUID
	token     string
}

const agentName = "main"

// seed makes a state directory with as many workspaces. It is filled in memory,
// where a commit costs nothing, and then copied.
func seed(ctx context.Context, dir string, workspaces int) ([]known, error) {
	temp, err := os.MkdirTemp("/dev/shm", "worktally-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	const file = "worktally.db"
	agents, err := fill(ctx, filepath.Join(temp, file), workspaces)
	if err != nil {
		return nil, fmt.Errorf("make workspaces: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(temp, file))
	if err != nil {
		return nil, err
	}
	return agents, os.WriteFile(filepath.Join(dir, file), text, 0o600)
}

func fill(ctx context.Context, path string, workspaces int) ([]known, error) {
	db, err := sqldb.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	c, err := catalog.Open(ctx, db, catalog.Options{})
	if err != nil {
		return nil, err
	}
	user, _, _, err := c.EnsureFirstUser(ctx, "admin")
	if err != nil {
		return nil, err
	}
	agents := make([]known, 0, workspaces)
	for i := range workspaces {
		applied, err := c.Apply(ctx, user, catalog.Spec{
			Name: fmt.Sprintf("ws-%06d", i), Template: catalog.Template{Name: "docker", Version: "1"},
			Agents: []catalog.AgentSpec{{Name: agentName, Directory: "/workspace"}},
		})
		if err != nil {
			return nil, err
		}
		agents = append(agents, known{applied.Workspace.ID, applied.Tokens[agentName]})
	}
	return agents, db.Close() // with the last connection the log goes into the file
}
