package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/worktally/worktally/e2e/tap"
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
	SSH, PTY *tap.Proxy
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

func (s *Stack) tap(network, target string) (*tap.Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := tap.Listen(l, network, target)
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
