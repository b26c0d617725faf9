package agent

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/worktally/worktally/wire/agentpb"
)

// writeSecrets writes the secrets that are files and returns those that are
// variables (contract agent-api.md section 6.9). A failure is logged and concerns
// that secret only.
func (a *Agent) writeSecrets(secrets []*agentpb.WorkspaceSecret) (env map[string]string) {
	env = make(map[string]string)
	for _, s := range secrets {
		if s.GetEnvName() != "" {
			env[s.GetEnvName()] = string(s.GetValue())
		}
		if s.GetFilePath() == "" {
			continue
		}
		if err := writeSecretFile(a.commands.ExpandPath(s.GetFilePath()), s.GetValue()); err != nil {
			a.log.Error("write secret", "path", s.GetFilePath(), "err", err)
		}
	}
	return env
}

// writeSecretFile writes a file of mode 0600; one that exists keeps its mode.
func writeSecretFile(path string, value []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return os.WriteFile(path, value, 0o600)
}
