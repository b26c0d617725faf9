package agentssh

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// TestServer_ProcessesInheritNoListener: with a listener of the agent a process would
// hold the address when the agent is gone, and processes survive their agent.
func TestServer_ProcessesInheritNoListener(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var socket string
	if err := errors.Join(raw.Control(func(fd uintptr) { socket, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)) }), err); err != nil {
		t.Fatal(err)
	}
	for _, terminal := range []bool{false, true} {
		s := w.session(w.dial())
		if terminal {
			if err := s.RequestPty("xterm", 24, 200, ssh.TerminalModes{}); err != nil {
				t.Fatal(err)
			}
		}
		out, err := s.Output("ls -l /proc/$$/fd")
		if err != nil {
			t.Fatal(err)
		}
		if text := string(out); strings.Contains(text, socket) || !strings.Contains(text, " 2 -> ") {
			t.Errorf("terminal %v: a process has %s:\n%s", terminal, socket, text)
		}
	}
}
