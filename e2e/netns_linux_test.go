package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/internal/testtool"
)

// lab is a network of namespaces: hub (a bridge, and the server), agent, client,
// and a router in front of the client if there is NAT.
type lab struct {
	t      *testing.T
	prefix string
	nat    bool
	*stack.Stack
	token string
}

const labPort = "3000"

// newLab makes the namespaces. Without the privilege it skips, and fails in CI.
func newLab(t *testing.T, nat bool) *lab {
	t.Helper()
	testtool.Find(t, "ip")
	testtool.Find(t, "nft")
	l := &lab{t: t, prefix: fmt.Sprintf("wt%d-%s", os.Getpid()%10000, strings.ToLower(t.Name()[len(t.Name())-3:])), nat: nat}
	names := []string{"hub", "agent", "client"}
	if nat {
		names = append(names, "router")
	}
	for _, name := range names {
		if out, err := exec.Command("ip", "netns", "add", l.ns(name)).CombinedOutput(); err != nil {
			testtool.Missing(t, "network namespaces cannot be made: %s", out)
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", l.ns(name)).Run() })
		l.in(name, "ip", "link", "set", "lo", "up")
	}
	l.in("hub", "ip", "link", "add", "br0", "type", "bridge")
	l.in("hub", "ip", "addr", "add", "10.77.0.1/24", "dev", "br0")
	l.in("hub", "ip", "link", "set", "br0", "up")
	l.join("agent", "10.77.0.2/24")
	if !nat {
		l.join("client", "10.77.0.3/24")
	} else {
		l.join("router", "10.77.0.3/24")
		l.in("router", "ip", "link", "add", "inside", "type", "veth", "peer", "name", "eth0", "netns", l.ns("client"))
		l.in("router", "ip", "addr", "add", "192.168.5.1/24", "dev", "inside")
		l.in("router", "ip", "link", "set", "inside", "up")
		l.in("router", "sysctl", "-qw", "net.ipv4.ip_forward=1")
		l.in("router", "nft", "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post oifname eth0 masquerade")
		l.in("client", "ip", "addr", "add", "192.168.5.2/24", "dev", "eth0")
		l.in("client", "ip", "link", "set", "eth0", "up")
		l.in("client", "ip", "route", "add", "default", "via", "192.168.5.1")
	}
	s, err := stack.New(t.Context(), t.TempDir(), bin)
	if err != nil {
		t.Fatal(err)
	}
	l.Stack = s
	t.Cleanup(func() { _ = s.Close() })
	return l
}

func (l *lab) ns(name string) string { return l.prefix + "-" + name }

// in runs a command in a namespace.
func (l *lab) in(name string, args ...string) string {
	l.t.Helper()
	out, err := exec.Command("ip", append([]string{"netns", "exec", l.ns(name)}, args...)...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s: %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

// join connects a namespace with the hub's bridge.
func (l *lab) join(name, address string) {
	l.t.Helper()
	l.in("hub", "ip", "link", "add", "to-"+name, "type", "veth", "peer", "name", "eth0", "netns", l.ns(name))
	l.in("hub", "ip", "link", "set", "to-"+name, "master", "br0", "up")
	l.in(name, "ip", "addr", "add", address, "dev", "eth0")
	l.in(name, "ip", "link", "set", "eth0", "up")
	l.in(name, "ip", "route", "replace", "default", "via", "10.77.0.1")
}

func (l *lab) startIn(name string, env []string, program string, args ...string) *stack.Program {
	l.t.Helper()
	path := filepath.Join(l.Bin, program)
	p, err := l.Start(name, env, testtool.Find(l.t, "ip"), append([]string{"netns", "exec", l.ns(name), path}, args...)...)
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

func (l *lab) url() string { return "http://10.77.0.1:" + labPort }

// startServer starts the server; a second time it has the same state.
func (l *lab) startServer() *stack.Program {
	l.t.Helper()
	p := l.startIn("hub", nil, "worktally", "server", "--http-address", "10.77.0.1:"+labPort, "--state-dir", l.Path("server"),
		"--prometheus-enable", "--prometheus-address", "10.77.0.1:2112", "--prometheus-collect-agent-stats", "--agent-stats-refresh-interval", "1s")
	l.await(func() error {
		_, err := l.get("hub", "http://10.77.0.1:2112/-/ready")
		return err
	}, p)
	if l.token == "" {
		text, err := os.ReadFile(p.Out)
		if err != nil {
			l.t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		l.token = lines[len(lines)-1]
	}
	return p
}

func (l *lab) startAgent() {
	l.t.Helper()
	spec := l.Path("workspace.yaml")
	if err := os.WriteFile(spec, []byte("name: lab\n"), 0o600); err != nil {
		l.t.Fatal(err)
	}
	out := l.worktally("hub", "workspace", "apply", "-f", spec)
	_, token, _ := strings.Cut(strings.TrimSpace(out), "=")
	token, _, _ = strings.Cut(token, "\n")
	p := l.startIn("agent", []string{"CODER_AGENT_TOKEN=" + token, "CODER_AGENT_URL=" + l.url()}, "worktally-agent",
		"--state-dir", l.Path("agent-state"), "--log-dir", l.Path("agent-logs"), "--script-data-dir", l.Path("agent-data"),
		"--prometheus-address", "10.77.0.2:2112", "--log-human", "")
	l.await(func() error {
		page, err := l.page()
		if err == nil && page.Sum("agent_connected") != 1 {
			err = fmt.Errorf("the agent is not connected")
		}
		return err
	}, p)
}

func (l *lab) command(ns string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(l.t.Context(), "ip", append([]string{"netns", "exec", l.ns(ns), filepath.Join(l.Bin, "worktally")}, args...)...)
	cmd.Env = append(l.Environ(), "WORKTALLY_URL="+l.url(), "WORKTALLY_TOKEN="+l.token)
	return cmd
}

// worktally runs a command of people's in a namespace.
func (l *lab) worktally(ns string, args ...string) string {
	l.t.Helper()
	cmd := l.command(ns, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("worktally %v: %v: %s%s", args, err, out, errs.String())
	}
	return string(out)
}

func (l *lab) await(try func() error, programs ...*stack.Program) {
	l.t.Helper()
	if err := stack.Await(l.t.Context(), patience, try, programs...); err != nil {
		l.t.Fatal(err)
	}
}

// awaitPath pings until the path is the wanted one.
func (l *lab) awaitPath(want string, flags ...string) {
	l.t.Helper()
	l.await(func() error {
		out, err := l.command("client", append([]string{"ping", "lab", "--num", "5", "--interval", "200ms"}, flags...)...).CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if err != nil || len(lines) < 2 || !strings.Contains(lines[len(lines)-2], want) {
			return fmt.Errorf("the path is not %s: %v: %s", want, err, out)
		}
		return nil
	})
}

// page reads the agent's page from within its namespace.
func (l *lab) page() (stack.Page, error) {
	body, err := l.get("agent", "http://10.77.0.2:2112/metrics")
	if err != nil {
		return nil, err
	}
	return stack.ParsePage(body)
}

func (l *lab) get(ns, url string) ([]byte, error) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, address string) (c net.Conn, err error) {
			done := make(chan struct{})
			go func() { // its thread ends with it, because it is never unlocked
				defer close(done)
				c, err = dialIn(l.ns(ns), network, address)
			}()
			<-done
			return c, err
		}}}
	resp, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return readAll(resp)
}

func dialIn(ns, network, address string) (net.Conn, error) {
	runtime.LockOSThread()
	f, err := os.Open("/run/netns/" + ns)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	return net.DialTimeout(network, address, 10*time.Second)
}
