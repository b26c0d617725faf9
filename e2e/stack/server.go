package stack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// serverName is the program, and what a server's files are called after.
const serverName = "worktally"

// Server is "worktally server". Its addresses stay the same when it is started
// again.
type Server struct {
	*Program // the newest run
	// Address is where agents and people connect, Page where the metrics are.
	Address, Page string
	// Token is the first administrator's.
	Token string
	// Args and Env are added to those that every start has.
	Args, Env []string
	// Secure says that it speaks TLS with agents and people.
	Secure bool
	s      *Stack
}

// URL is how agents and people reach it.
func (srv *Server) URL() string {
	if srv.Secure {
		return "https://" + srv.Address
	}
	return "http://" + srv.Address
}

// NewServer returns a server that is not started. Its page is expected at the
// given address; where it really is, and whether, say its flags and variables.
func (s *Stack) NewServer(page string) *Server { return &Server{Page: page, s: s} }

// StartServer starts a server that shows everything, and waits until it is ready.
func (s *Stack) StartServer(ctx context.Context, interval time.Duration, args ...string) (*Server, error) {
	page, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	srv := s.NewServer(page)
	srv.Args = append([]string{
		"--prometheus-enable", "--prometheus-address", page, "--prometheus-collect-agent-stats",
		"--agent-stats-refresh-interval", interval.String(),
	}, args...)
	return srv, srv.Start(ctx)
}

// Start starts the server, for the first time or after it has ended, and waits
// until it is ready.
func (srv *Server) Start(ctx context.Context) (err error) {
	if srv.Address == "" {
		if srv.Address, err = FreeAddress(); err != nil {
			return err
		}
	}
	args := append([]string{"server", "--http-address", srv.Address, "--state-dir", srv.s.Path("server")}, srv.Args...)
	if srv.Program, err = srv.s.Start(serverName, srv.Env, serverName, args...); err != nil {
		return err
	}
	return Await(ctx, patience, func() error {
		text, err := os.ReadFile(srv.Out)
		if err != nil {
			return err
		}
		// The first token is printed once, after a line that says so.
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if len(lines) != 2 {
			return fmt.Errorf("the server has printed %q, not the first token", text)
		}
		srv.Token = lines[1]
		_, err = Get(ctx, "http://"+srv.Page+"/-/ready")
		return err
	}, srv.Program)
}

// Metrics reads the metrics page.
func (srv *Server) Metrics(ctx context.Context) (Page, error) { return ReadPage(ctx, srv.Page) }

// Command is "worktally" as the administrator.
func (srv *Server) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(srv.s.Bin, serverName), args...)
	cmd.Env = append(srv.s.Environ(), "WORKTALLY_URL="+srv.URL(), "WORKTALLY_TOKEN="+srv.Token)
	return cmd
}

// CLI runs "worktally" as the administrator and returns what it printed. The
// error has what it complained about.
func (srv *Server) CLI(ctx context.Context, args ...string) (string, error) {
	cmd := srv.Command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("worktally %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// Apply creates a workspace with one agent from a file and returns the agent's
// token.
func (srv *Server) Apply(ctx context.Context, file string) (token string, err error) {
	out, err := srv.CLI(ctx, "workspace", "apply", "-f", file)
	if err != nil {
		return "", err
	}
	_, token, ok := strings.Cut(strings.TrimSpace(out), "=")
	if !ok {
		return "", fmt.Errorf("no agent token in %q", out)
	}
	return token, nil
}
