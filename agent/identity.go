package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/wire/agentpb"
)

// identity is who the agent is. It is kept in the state directory, so that the
// page has its labels and SSH its host key before the server answers.
type identity struct {
	Workspace     uuid.UUID `json:"workspace_id"`
	AgentName     string    `json:"agent_name"`
	Username      string    `json:"username"`
	WorkspaceName string    `json:"workspace_name"`
	TemplateName  string    `json:"template_name,omitempty"`
}

func (i identity) names() exposition.Names {
	return exposition.Names{AgentName: i.AgentName, Username: i.Username, WorkspaceName: i.WorkspaceName, TemplateName: i.TemplateName}
}

// templateVariable names the template where the server does not.
const templateVariable = "CODER_WORKSPACE_TEMPLATE_NAME"

func (a *Agent) identityOf(m *agentpb.Manifest) identity {
	id := identity{
		Workspace: uuid.UUID(m.GetWorkspaceId()), AgentName: m.GetAgentName(), Username: m.GetOwnerUsername(), WorkspaceName: m.GetWorkspaceName(),
		TemplateName: m.GetWorktally().GetTemplateName(),
	}
	if id.TemplateName == "" {
		id.TemplateName = m.GetEnvironmentVariables()[templateVariable]
	}
	if id.TemplateName == "" {
		id.TemplateName = a.getenv(templateVariable)
	}
	return id
}

func (a *Agent) getenv(name string) string {
	environ := a.o.Environ
	if environ == nil {
		environ = os.Environ
	}
	for _, e := range environ() {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

func (a *Agent) setIdentity(ctx context.Context, id identity) {
	old := a.identity.Swap(&id)
	if old != nil && *old == id {
		return
	}
	if err := a.keepIdentity(ctx, id); err != nil {
		a.log.Warn("keep identity", "err", err)
	}
}

// identityFile is where the identity of the agent with the current token is
// kept. The name tells nothing about the token.
func (a *Agent) identityFile(ctx context.Context) (string, error) {
	token, err := a.currentToken(ctx)
	if err != nil {
		return "", fmt.Errorf("agent token: %w", err)
	}
	sum := sha256.Sum256([]byte(a.o.URL.String() + "\x00" + token))
	return filepath.Join(a.o.StateDir, "identities", hex.EncodeToString(sum[:12])+".json"), nil
}

func (a *Agent) keepIdentity(ctx context.Context, id identity) error {
	if a.o.StateDir == "" {
		return nil
	}
	file, err := a.identityFile(ctx)
	if err != nil {
		return err
	}
	text, err := json.Marshal(id)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	temp := file + ".tmp"
	if err := os.WriteFile(temp, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, file)
}

// maxIdentity bounds how much of the file is read.
const maxIdentity = 1 << 20

// recallIdentity reads the identity of an earlier run. A missing one is no error.
func (a *Agent) recallIdentity(ctx context.Context) error {
	if a.o.StateDir == "" {
		return nil
	}
	file, err := a.identityFile(ctx)
	if err != nil {
		return err
	}
	text, err := a.readIdentity(file, maxIdentity)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var id identity
	if err := json.Unmarshal(text, &id); err != nil || id.AgentName == "" || id.Workspace == uuid.Nil {
		return fmt.Errorf("%s is damaged; it is written again with the next manifest (%v)", file, err)
	}
	a.client.Recall(id.Workspace, id.AgentName) // its totals come before its page
	a.identity.CompareAndSwap(nil, &id)
	return nil
}

// awaitIdentity waits until the agent knows who it is; false means that it is
// stopping.
func (a *Agent) awaitIdentity(ctx context.Context) bool {
	if a.identity.Load() != nil {
		return true
	}
	select {
	case <-a.firstManifest:
		return true
	case <-ctx.Done():
		return false
	}
}

// stateDir is the part of the state directory that belongs to this agent of this
// workspace, "" if nothing is kept.
func (a *Agent) stateDir() string {
	if id := a.identity.Load(); id != nil {
		return a.stateDirOf(id.Workspace, id.AgentName)
	}
	return ""
}

func (a *Agent) stateDirOf(workspace uuid.UUID, agent string) string {
	if a.o.StateDir == "" {
		return ""
	}
	return filepath.Join(a.o.StateDir, workspace.String(), safeName(agent))
}

// outboxDir is where reports wait until a server has taken them in.
func (a *Agent) outboxDir(workspace uuid.UUID, agent string) string {
	if dir := a.stateDirOf(workspace, agent); dir != "" {
		return filepath.Join(dir, "outbox")
	}
	return ""
}

// maxElement is what file systems take as the length of a path element, in bytes.
const maxElement = 255

// safeName makes an agent's name a single path element, another one for each name.
func safeName(name string) string {
	if isElement(name) {
		return name
	}
	if escaped := hex.EncodeToString([]byte(name)) + ".x"; len(escaped) <= maxElement {
		return escaped
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:]) + ".h"
}

// isElement says whether a name can stand for itself; the endings are those of names
// that cannot.
func isElement(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxElement && !strings.ContainsAny(name, "/\\\x00") &&
		!strings.HasSuffix(name, ".x") && !strings.HasSuffix(name, ".h")
}
