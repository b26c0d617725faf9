package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
)

// TestHostKey_UnwritableStateDir: SSH is served all the same.
func TestHostKey_UnwritableStateDir(t *testing.T) {
	inTheWay := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a := &Agent{o: Options{StateDir: inTheWay}, log: slog.New(slog.DiscardHandler)}
	a.identity.Store(&identity{Workspace: uuid.New(), AgentName: "main"})
	if key, err := a.hostKey(); err != nil || key == nil {
		t.Fatalf("%v, %v", key, err)
	}
}
