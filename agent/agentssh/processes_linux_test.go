package agentssh

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/agent/stats"
)

// fakeProc builds a process file system: process 10 listens on port 8080 (IPv4)
// and on a socket, process 11 on port 8081 (IPv6); port 8082 is only connected.
func fakeProc(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	file := func(name, content string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, to string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}
	const header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	file("net/tcp", header+
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 500 1 0 100 0 0 10 0\n"+
		"   1: 0100007F:1F92 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 501 1 0 100 0 0 10 0\n")
	file("net/tcp6", header+
		"   0: 00000000000000000000000000000000:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 502 1 0 100 0 0 10 0\n")
	file("net/unix", "Num       RefCount Protocol Flags    Type St Inode Path\n"+
		"0000000000000000: 00000002 00000000 00010000 0001 01   503 /run/ide.sock\n"+
		"0000000000000000: 00000003 00000000 00000000 0001 03   504 /run/ide.sock\n")
	file("10/cmdline", "java\x00-Didea.vendor.name=JetBrains\x00")
	link("10/exe", "/opt/ide/jbr/bin/java")
	link("10/fd/3", "socket:[500]")
	link("10/fd/4", "socket:[503]")
	file("11/cmdline", "node\x00")
	link("11/exe", "/home/u/.vscode-server/node")
	link("11/fd/7", "socket:[502]")
	link("11/fd/8", "socket:[501]")
	return root
}

func TestProcesses(t *testing.T) {
	p := NewProcesses(fakeProc(t))
	java := stats.ForwardFacts{CommandLine: "java -Didea.vendor.name=JetBrains", Executable: "/opt/ide/jbr/bin/java"}
	for port, want := range map[uint16]stats.ForwardFacts{
		8080: java,
		8081: {CommandLine: "node", Executable: "/home/u/.vscode-server/node"},
		8082: {}, 8083: {},
	} {
		if diff := cmp.Diff(want, p.ListeningOnTCP(port)); diff != "" {
			t.Errorf("port %d (-want +got):\n%s", port, diff)
		}
	}
	if diff := cmp.Diff(java, p.ListeningOnUnix("/run/ide.sock")); diff != "" {
		t.Errorf("socket (-want +got):\n%s", diff)
	}
	if got := NewProcesses(t.TempDir()).ListeningOnTCP(8080); got != (stats.ForwardFacts{}) {
		t.Errorf("found %+v in an empty file system", got)
	}
}

func TestProcesses_FindsThisTest(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	got := NewProcesses("/proc").ListeningOnTCP(uint16(l.Addr().(*net.TCPAddr).Port))
	if got.Executable != self || !strings.HasPrefix(got.CommandLine, os.Args[0]) {
		t.Errorf("found %+v", got)
	}
}

func TestLookups_AskOnceForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked := 0
		l := &lookups{known: make(map[target]*answer), ask: func(target) stats.ForwardFacts {
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			asked++
			return stats.ForwardFacts{CommandLine: "x"}
		}}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got := l.ListeningOnTCP(1); got.CommandLine != "x" {
					t.Errorf("got %+v", got)
				}
			})
		}
		wg.Wait()
		if asked != 1 {
			t.Errorf("asked %d times for 50 at once", asked)
		}
		time.Sleep(lookupLife)
		l.ListeningOnTCP(1)
		if asked != 2 {
			t.Errorf("asked %d times, want a second time after a while", asked)
		}
		for port := range uint16(3 * maxLookups) {
			wg.Go(func() { l.ListeningOnTCP(port) })
		}
		wg.Wait()
		if len(l.known) > maxLookups {
			t.Errorf("%d answers are kept", len(l.known))
		}
	})
}
