package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/worktally/worktally/internal/smallfile"
)

// editorSettings are the machine settings of the editors that ask for git
// credentials in a way of their own unless told not to (contract agent-cli.md
// section 3).
func (a *Agent) editorSettings(home string) []string {
	data := a.getenv("XDG_DATA_HOME")
	if data == "" {
		data = filepath.Join(home, ".local", "share")
	}
	files := []string{filepath.Join(data, "code-server", "Machine", "settings.json")}
	for _, dir := range []string{".vscode-server", ".vscode-insiders-server", ".cursor-server", ".windsurf-server", ".vscodium-server"} {
		files = append(files, filepath.Join(home, dir, "data", "Machine", "settings.json"))
	}
	return files
}

// prepareEditors makes editors use the agent's askpass for git. A file that
// cannot be changed is logged and left as it is.
func (a *Agent) prepareEditors() {
	home, err := a.commands.Home()
	if err != nil {
		a.log.Warn("find the home for editor settings", "err", err)
		return
	}
	for _, file := range a.editorSettings(home) {
		if err := mergeSettings(file, map[string]any{"git.useIntegratedAskPass": false, "github.gitAuthentication": false}); err != nil {
			a.log.Warn("change editor settings", "path", file, "err", err)
		}
	}
}

// maxSettings bounds how much of a file is read; a larger one is left alone.
const maxSettings = 4 << 20

// mergeSettings sets keys in a JSON file and keeps the rest. A file that is no
// JSON object (editors allow comments) is not touched.
func mergeSettings(path string, keys map[string]any) error {
	settings := make(map[string]any)
	text, err := smallfile.Read(path, maxSettings)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(text, &settings); err != nil {
			return fmt.Errorf("it is not plain JSON: %w", err)
		}
		if settings == nil {
			return errors.New("it is not a JSON object")
		}
	}
	changed := false
	for k, v := range keys {
		if old, ok := settings[k]; !ok || old != v {
			settings[k], changed = v, true
		}
	}
	if !changed {
		return nil
	}
	if text, err = json.MarshalIndent(settings, "", "  "); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp := path + ".worktally"
	if err := os.WriteFile(temp, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
