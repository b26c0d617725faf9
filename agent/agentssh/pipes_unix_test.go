//go:build unix

package agentssh

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/agentexec"
)

// TestServer_PipesInPlaceOfFiles: nobody writes to them. No session waits for that,
// nor the agent.
func TestServer_PipesInPlaceOfFiles(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{".Xauthority", "motd", "keys", hostKeyFile} {
		if err := syscall.Mkfifo(filepath.Join(w.home, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.builder.Update(agentexec.Settings{MOTDFile: "~/motd"})

	s := w.session(w.dial())
	if ok, err := s.SendRequest("x11-req", true, x11Request(0)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	var exit *ssh.ExitError
	if err := s.Run("true"); !errors.As(err, &exit) || exit.ExitStatus() != 1 {
		t.Errorf("with X11: %v", err)
	}
	x := w.terminal(w.dial(), ssh.TerminalModes{})
	x.Stdin = strings.NewReader("exit 7\n")
	err := x.Shell()
	if err == nil {
		err = x.Wait()
	}
	if !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		t.Errorf("a login: %v", err)
	}
	if keys, err := AuthorizedKeysFile(filepath.Join(w.home, "keys"), nil)(); err == nil {
		t.Errorf("%d keys", len(keys))
	}
	if _, err := LoadOrCreateHostKey(w.home); err == nil {
		t.Error("a pipe is a host key")
	}
	if info, err := os.Lstat(filepath.Join(w.home, hostKeyFile)); err != nil || info.Mode().IsRegular() {
		t.Errorf("the pipe was replaced: %v, %v", info, err)
	}
}
