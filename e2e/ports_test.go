package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/internal/testtool"
)

// listening returns the addresses on which a process listens.
func (w *world) listening(p *stack.Program) (addresses []string) {
	w.t.Helper()
	sockets := make(map[string]bool)
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.PID()))
	w.must(err)
	if len(files) == 0 {
		testtool.Missing(w.t, "/proc does not tell what processes have open")
	}
	for _, f := range files {
		if link, err := os.Readlink(f); err == nil { // it may be closed by now
			sockets[strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		for line := range strings.Lines(w.read(fmt.Sprintf("/proc/%d/net/%s", p.PID(), table))) {
			f := strings.Fields(line)
			const listen = "0A"
			if len(f) < 10 || f[3] != listen || !sockets[f[9]] {
				continue
			}
			var ip, port uint32
			if _, err := fmt.Sscanf(f[1], "%08X:%04X", &ip, &port); err != nil {
				w.t.Fatal(err)
			}
			addresses = append(addresses, fmt.Sprintf("%s:%d", net.IPv4(byte(ip), byte(ip>>8), byte(ip>>16), byte(ip>>24)), port))
		}
	}
	return addresses
}

// defaultPage is where both programs want to serve their metrics.
const defaultPage = "127.0.0.1:2112"

func TestDefect10_12_TheAgentMakesRoom(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", defaultPage)
	if err != nil {
		testtool.Missing(t, "%s is taken by something else: %v", defaultPage, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.server = w.NewServer(defaultPage)
	w.server.Args = []string{"--prometheus-enable", "--agent-stats-refresh-interval", interval.String()}
	w.must(w.server.Start(t.Context()))
	w.apply(spec("ws", ""))
	token := w.write("token", w.token)
	agent, err := w.Start("worktally-agent", nil, "worktally-agent", "--agent-url", "http://"+w.server.Address,
		"--agent-token-file", token, "--state-dir", w.Path("agent"), "--log-dir", w.Path("logs"))
	w.must(err)
	var page string
	w.await(patience, "the agent says where its page is", func(context.Context) error {
		text, err := os.ReadFile(w.Path("agent", "metrics-address"))
		page = strings.TrimSpace(string(text))
		return err
	})
	if page == defaultPage || !slices.Contains(w.listening(agent), page) {
		t.Errorf("the agent says %s and listens on %v", page, w.listening(agent))
	}
	if want, got := `[{"targets":["`+page+`"]}]`+"\n", w.read(w.Path("agent", "metrics-file-sd.json")); got != want {
		t.Errorf("file_sd: %s, want %s", got, want)
	}
	if log := w.read(agent.Log); !regexp.MustCompile(`level=WARN .*wanted=` + defaultPage + ` .*address=` + page).MatchString(log) {
		t.Errorf("the log does not say so: %s", log)
	}
	w.await(patience, "the agent's page", func(ctx context.Context) error {
		p, err := stack.ReadPage(ctx, page)
		if err == nil && !p.Has("coderd_agentstats_session_count_ssh", `workspace_name="ws"`) {
			err = errors.New("the agent's families are missing")
		}
		return err
	})
	if p, err := w.server.Metrics(t.Context()); err != nil || !p.Has("worktally_build_info") {
		t.Errorf("the server keeps its page: %v", err)
	}
}
