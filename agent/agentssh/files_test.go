package agentssh

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

// randomFile writes a file of n random bytes outside of the home.
func randomFile(t *testing.T, n int) (path string, content []byte) {
	t.Helper()
	content = make([]byte, n)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, content
}

func TestServer_SFTP(t *testing.T) {
	w := newWorld(t)
	path, want := randomFile(t, 5<<20)
	back := filepath.Join(t.TempDir(), "back")
	batch := "put " + path + " sent\nget sent " + back + "\npwd\n"
	got := w.tool(strings.NewReader(batch), nil, "sftp", append(w.sshOptions(), "-b", "-", "me@127.0.0.1")...)
	if got.code != 0 || !strings.Contains(got.stdout, "Remote working directory: "+w.home) {
		t.Fatalf("result = %+v", got)
	}
	b, err := os.ReadFile(back)
	if err != nil || !bytes.Equal(b, want) || w.read("sent") != string(want) {
		t.Errorf("the file came back with %d bytes, %v", len(b), err)
	}
	if w.total("agent_ssh_server_sftp_connections_total") != 1 || w.total("agent_ssh_server_sftp_server_errors_total") != 0 ||
		w.ended(stats.EndExited) != 1 {
		t.Error("the session was not counted as it was")
	}
}

func TestServer_SFTPGarbage(t *testing.T) {
	w := newWorld(t)
	s := w.session(w.dial())
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestSubsystem("sftp"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(bytes.Repeat([]byte{0xff}, 100)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the failure", func() bool {
		return w.total("agent_ssh_server_sftp_server_errors_total") == 1 && w.ended(stats.EndFailed) == 1
	})
	if d := w.ends(t, 1); d[0].Code != 1 || !strings.HasPrefix(d[0].Reason, "sftp server closed with error: ") {
		t.Errorf("disconnected = %+v", d)
	}
}

func TestServer_SFTPClientVanishes(t *testing.T) {
	w := newWorld(t)
	c := w.dial()
	if err := w.session(c).RequestSubsystem("sftp"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session", func() bool { return w.open() == 1 })
	c.Close()
	eventually(t, "its end", func() bool { return w.ended(stats.EndDisconnected) == 1 })
}

func TestServer_SCP(t *testing.T) {
	for name, flags := range map[string][]string{"over sftp": nil, "the old way": {"-O"}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			path, want := randomFile(t, 1<<20)
			back := filepath.Join(t.TempDir(), "back")
			options := append(w.sshOptions(), flags...)
			if got := w.tool(nil, nil, "scp", append(options, path, "me@127.0.0.1:sent")...); got.code != 0 {
				t.Fatalf("put: %+v", got)
			}
			if got := w.tool(nil, nil, "scp", append(options, "me@127.0.0.1:sent", back)...); got.code != 0 {
				t.Fatalf("get: %+v", got)
			}
			if b, err := os.ReadFile(back); err != nil || !bytes.Equal(b, want) {
				t.Errorf("the file came back with %d bytes, %v", len(b), err)
			}
		})
	}
}

// remoteShell is how rsync and git are told to reach the server.
func (w *world) remoteShell() string { return "ssh " + strings.Join(w.sshOptions(), " ") }

func TestServer_Rsync(t *testing.T) {
	w := newWorld(t)
	path, want := randomFile(t, 1<<20)
	for range 2 {
		got := w.tool(nil, nil, "rsync", "-az", "-e", w.remoteShell(), path, "me@127.0.0.1:synced")
		if got.code != 0 || w.read("synced") != string(want) {
			t.Fatalf("result = %+v", got)
		}
	}
}

func TestServer_Git(t *testing.T) {
	w := newWorld(t)
	env := []string{
		"GIT_SSH_COMMAND=" + w.remoteShell(), "HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@localhost", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@localhost",
	}
	clone := filepath.Join(t.TempDir(), "clone")
	git := func(args ...string) {
		t.Helper()
		if got := w.tool(nil, env, "git", args...); got.code != 0 {
			t.Fatalf("git %q: %+v", args, got)
		}
	}
	git("init", "--quiet", "--bare", "-b", "main", filepath.Join(w.home, "repo"))
	git("clone", "--quiet", "me@127.0.0.1:repo", clone)
	git("-C", clone, "commit", "--quiet", "--allow-empty", "-m", "first")
	git("-C", clone, "push", "--quiet", "origin", "HEAD:main")
	again := filepath.Join(t.TempDir(), "again")
	git("clone", "--quiet", "me@127.0.0.1:repo", again)
	if got := w.tool(nil, env, "git", "-C", again, "log", "--format=%s"); got.stdout != "first\n" {
		t.Errorf("log = %+v", got)
	}
}

func TestServer_BlockFileTransfer(t *testing.T) {
	w := newWorld(t, func(o *Options, _ *agentexec.Options) { o.BlockFileTransfer = true })
	for _, command := range []string{"scp -t .", "/usr/bin/rsync --server", "nc localhost 1", " sftp x"} {
		got := w.ssh(nil, command)
		if got != (result{"\x02File transfer has been disabled.\n", "", 65}) {
			t.Errorf("%s: %+v", command, got)
		}
	}
	if got := w.ssh([]string{"-s"}, "sftp"); got != (result{"", "", 65}) {
		t.Errorf("subsystem: %+v", got)
	}
	if got := w.ssh(nil, "echo scp"); got != (result{"scp\n", "", 0}) {
		t.Errorf("another command: %+v", got)
	}
	if _, d := w.reports.all(); d[0].Code != 65 || d[0].Reason != "file transfer blocked" {
		t.Errorf("disconnected = %+v", d[0])
	}
	if w.ended(stats.EndFailed) != 5 {
		t.Errorf("failed = %v", w.ended(stats.EndFailed))
	}
}
