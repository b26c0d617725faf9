//go:build unix

package agentssh

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/stats"
)

// TestServer_SFTPClientVanishesInAnOpen: who opens a pipe that nobody writes to
// waits in the system, where nothing can wake it. The session ends all the same
// when its client goes; its server has a place until the system answers.
func TestServer_SFTPClientVanishesInAnOpen(t *testing.T) {
	w := newWorld(t)
	pipe := filepath.Join(w.home, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	c := w.dial()
	files, err := sftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		_, _ = files.Open(pipe) // ends with the connection
	}()
	eventually(t, "the open", func() bool { return strings.Contains(stacks(), "sshFxpOpenPacket).respond") })
	c.Close()
	<-opened
	eventually(t, "its end", func() bool { return w.ended(stats.EndDisconnected) == 1 && w.open() == 0 })
	if n := w.server.files.Load(); n != 1 {
		t.Errorf("%d servers have a place", n)
	}
	f, err := os.OpenFile(pipe, os.O_WRONLY, 0) // lets the open go on
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	eventually(t, "a free place", func() bool { return w.server.files.Load() == 0 })
}

// TestServer_SFTPServersAreBounded, over all connections.
func TestServer_SFTPServersAreBounded(t *testing.T) {
	w := newWorld(t)
	w.server.files.Store(maxSFTP)
	ch, requests, err := w.dial().OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(textPayload{"sftp"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	status := exitPayload{}
	for r := range requests {
		if r.Type == "exit-status" {
			_ = ssh.Unmarshal(r.Payload, &status)
		}
	}
	if status.Status != 1 {
		t.Errorf("one too many ended with %d", status.Status)
	}
	if n := w.total("agent_dropped_total", "what", "ssh_connections"); n != 1 || w.server.files.Load() != maxSFTP {
		t.Errorf("%v counted, %d places taken", n, w.server.files.Load())
	}
	w.server.files.Store(0)
	if _, err := sftp.NewClient(w.dial()); err != nil {
		t.Error(err)
	}
}

// stacks are those of all goroutines.
func stacks() string {
	b := make([]byte, 4<<20)
	return string(b[:runtime.Stack(b, true)])
}
