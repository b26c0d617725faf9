package agentssh

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// forwardAgent offers the client's key agent to the session and returns the path
// of its socket, which nobody else can reach.
func (s *session) forwardAgent() (string, error) {
	dir, err := os.MkdirTemp("", "auth-agent-")
	if err != nil {
		return "", fmt.Errorf("make a directory for the agent's socket: %w", err)
	}
	s.cleanups = append(s.cleanups, func() {
		if err := os.RemoveAll(dir); err != nil {
			s.c.log.Warn("remove the agent's socket", "err", err)
		}
	})
	l, err := listenSocket(filepath.Join(dir, "listener.sock"))
	if err != nil {
		return "", fmt.Errorf("offer the client's agent: %w", err)
	}
	s.cleanups = append(s.cleanups, func() { l.Close() })
	s.c.wg.Go(func() {
		s.c.relay(l, false, func(net.Conn) (string, []byte) { return "auth-agent@openssh.com", nil })
	})
	return l.Addr().String(), nil
}
