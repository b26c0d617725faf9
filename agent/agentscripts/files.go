package agentscripts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// dirs returns the data directory of the script and the directory of commands
// that scripts leave for each other, created if they are missing.
func (r *Runner) dirs(s Script) (data, bin string, err error) {
	data = filepath.Join(r.o.DataDir, "coder-script-data", s.LogSourceID.String())
	bin = BinDir(r.o.DataDir)
	for _, d := range []string{data, bin} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return "", "", fmt.Errorf("create script directory: %w", err)
		}
	}
	return data, bin, nil
}

// BinDir is the directory below the parent of the script data that comes first
// in PATH of every child.
func BinDir(dataDir string) string {
	return filepath.Join(dataDir, "coder-script-data", "bin")
}

// openLog opens the log file for appending: what earlier runs wrote stays.
func (r *Runner) openLog(s Script) (*os.File, error) {
	f, err := os.OpenFile(r.logPath(s), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log file: %w", err)
	}
	return f, nil
}

func (r *Runner) logPath(s Script) string {
	p := s.LogPath
	if p == "" {
		return filepath.Join(r.o.LogDir, "coder-script-"+s.LogSourceID.String()+".log")
	}
	if filepath.IsAbs(p) || strings.HasPrefix(p, "~") {
		return r.o.Commands.ExpandPath(p)
	}
	// Expansion resolves a relative path against home, which is not wanted here.
	below := filepath.Clean(r.o.Commands.ExpandPath("/" + p))
	if strings.HasPrefix(p, "$") && below == filepath.Clean(r.o.Commands.ExpandPath(p)) {
		return below // the variable holds an absolute path
	}
	return filepath.Join(r.o.LogDir, below)
}
