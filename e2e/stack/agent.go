package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/worktally/worktally/internal/faultnet"
)

// Agent is "worktally-agent", with a counting proxy in front of each of its
// listeners.
type Agent struct {
	*Program // the newest run
	// Page is where the metrics are; SSHAddress and PTYSocket are where the agent
	// itself listens.
	Page, SSHAddress, PTYSocket string
	// TokenFile holds the token; it is read at every dial.
	TokenFile string
	// SSH and PTY pass connections on and count their bytes.
	SSH, PTY *faultnet.Proxy
	// URL is the server's. Args and Env are added to those that every start has.
	URL       string
	Args, Env []string
	s         *Stack
	name      string
}

// StartAgent starts an agent and waits until it serves SSH. The files of agents of
// one stack are told apart by the name.
func (s *Stack) StartAgent(ctx context.Context, name, url, token string, args ...string) (*Agent, error) {
	a := &Agent{
		s: s, name: name, URL: url, Args: args,
		TokenFile: s.Path(name + ".token"), PTYSocket: s.Path(name + ".sock"),
	}
	var errSSH, errPage error
	a.SSHAddress, errSSH = FreeAddress()
	a.Page, errPage = FreeAddress()
	if err := errors.Join(errSSH, errPage, a.SetToken(token)); err != nil {
		return nil, err
	}
	var err error
	if a.SSH, err = s.tap("tcp", a.SSHAddress); err != nil {
		return nil, err
	}
	if a.PTY, err = s.tap("unix", a.PTYSocket); err != nil {
		return nil, err
	}
	return a, a.Start(ctx)
}

// SetToken writes the file with the token.
func (a *Agent) SetToken(token string) error {
	return os.WriteFile(a.TokenFile, []byte(token+"\n"), 0o600)
}

// Token reads the token back.
func (a *Agent) Token() (string, error) {
	text, err := os.ReadFile(a.TokenFile)
	return strings.TrimSpace(string(text)), err
}

func (s *Stack) tap(network, target string) (*faultnet.Proxy, error) {
	p, err := faultnet.ListenLoopback(network, target, 0)
	if err != nil {
		return nil, err
	}
	s.close = append(s.close, p.Close)
	return p, nil
}

// Start starts the agent again after it has ended.
func (a *Agent) Start(ctx context.Context) (err error) {
	args := append([]string{
		"--agent-url", a.URL, "--agent-token-file", a.TokenFile,
		"--state-dir", a.s.Path(a.name + ".state"), "--log-dir", a.s.Path(a.name + ".logs"), "--script-data-dir", a.s.Path(a.name + ".data"),
		"--prometheus-address", a.Page, "--ssh-address", a.SSHAddress, "--ssh-authorized-keys", a.s.keyFile() + ".pub", "--pty-socket", a.PTYSocket,
	}, a.Args...)
	if a.Program, err = a.s.Start(a.name, a.Env, "worktally-agent", args...); err != nil {
		return err
	}
	return Await(ctx, patience, func() error {
		// The agent opens its listeners before it knows whom it serves.
		_, err := Get(ctx, "http://"+a.Page+"/-/ready")
		return err
	}, a.Program)
}

// Metrics reads the agent's metrics page.
func (a *Agent) Metrics(ctx context.Context) (Page, error) { return ReadPage(ctx, a.Page) }

// BothPages reads the pages of an agent and a server.
func BothPages(ctx context.Context, a *Agent, srv *Server) (agent, server Page, err error) {
	if agent, err = a.Metrics(ctx); err != nil {
		return nil, nil, fmt.Errorf("the agent's page: %w", err)
	}
	if server, err = srv.Metrics(ctx); err != nil {
		return nil, nil, fmt.Errorf("the server's page: %w", err)
	}
	return agent, server, nil
}

// AwaitLostReply waits, no longer than the limit, until a report is committed of which
// the agent knows nothing, when replies are swallowed: one that came after that began,
// or the one before it, on whose reply the agent then waits and sends no other. every
// is how often agents report.
func AwaitLostReply(ctx context.Context, limit time.Duration, a *Agent, srv *Server, every time.Duration) error {
	before := -1.0
	return Await(ctx, limit, func() error {
		agent, server, err := BothPages(ctx, a, srv)
		if err != nil {
			return err
		}
		committed := server.Sum("worktally_reports_total", `result="ok"`)
		if before < 0 {
			before = committed
		}
		acknowledged := time.UnixMilli(int64(1000 * agent.Sum("agent_report_last_success_timestamp_seconds")))
		if committed == before && time.Since(acknowledged) < 3*every {
			return errors.New("no report was committed and none waits for a reply")
		}
		return nil
	})
}
