package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/worktally/worktally/agent"
	"github.com/worktally/worktally/agent/agentssh"
	"github.com/worktally/worktally/internal/clienttls"
	"github.com/worktally/worktally/internal/webserve"
	"github.com/worktally/worktally/tailnet"
	"github.com/worktally/worktally/wire/agentpb"
)

// runAgent runs agents until a signal says stop: a new one whenever the server
// asks it to start over.
func runAgent(ctx context.Context, p process, f flags) error {
	u, subsystems, err := f.check(p.getenv)
	if err != nil {
		return err
	}
	if err := webserve.Validate(f.WebConfigFile); err != nil {
		return usageErr{fmt.Errorf("--web-config-file (WORKTALLY_AGENT_WEB_CONFIG_FILE): %w", err)}
	}
	log, closeLog, err := f.logging(p)
	if err != nil {
		return err
	}
	defer closeLog()
	f.warn(p, log)
	tailnet.PrepareProcess()
	if u.Scheme == "http" {
		tailnet.PreferPlainRelays()
	}
	defer mortalChildren()()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	force, over := make(chan struct{}), make(chan struct{})
	defer close(over)
	go p.mindSignals(log, stop, force, over)
	for {
		ended := make(chan error, 1)
		go func() { ended <- f.runOnce(ctx, p, u, subsystems, log) }() // ends with the process at the latest
		select {
		case err := <-ended:
			if errors.Is(err, agent.ErrReinit) {
				continue
			}
			return err
		case <-force:
			return errors.New("stopped at once by a second signal")
		}
	}
}

// warn says what is accepted and has no effect.
func (f flags) warn(p process, log *slog.Logger) {
	if f.Devcontainers || f.Discovery {
		log.Warn("dev containers are not supported; --devcontainers-enable and --devcontainers-project-discovery-enable have no effect")
	}
	if f.Token != "" {
		log.Warn("--agent-token can be read by others on this machine; use --agent-token-file or CODER_AGENT_TOKEN")
	}
}

// mindSignals turns signals into what they ask for, until there is nothing left
// to ask for.
func (p process) mindSignals(log *slog.Logger, stop context.CancelFunc, force chan<- struct{}, over <-chan struct{}) {
	asked := false
	for {
		var s os.Signal
		select {
		case s = <-p.signals:
		case <-over:
			return
		}
		switch {
		case isDump(s):
			path, err := dumpStacks(p.stderr)
			log.Warn("dumped the stacks of all goroutines", "signal", s.String(), "path", path, "err", err)
		case asked:
			log.Warn("second signal: stopping at once", "signal", s.String())
			close(force)
			return
		default:
			asked = true
			log.Info("stopping; a second signal stops at once", "signal", s.String())
			stop()
		}
	}
}

// runOnce is one straight line: listeners, agent, helpers beside it.
func (f flags) runOnce(ctx context.Context, p process, u *url.URL, subsystems []agentpb.Startup_Subsystem, log *slog.Logger) error {
	stateDir := f.stateDir(p.getenv)
	files, err := f.tlsFiles()
	if err != nil {
		return err
	}
	transport, err := files.Transport()
	if err != nil {
		return err
	}
	client := &http.Client{Transport: transport}
	defer client.CloseIdleConnections()
	token, err := f.authenticator(p, u, client)
	if err != nil {
		return err
	}
	o := agent.Options{
		URL: u, Token: token, Header: f.headerSource(), HTTPClient: client, Log: log,
		StateDir: stateDir, OutboxBytes: int64(f.OutboxMiB) << 20, LogDir: f.logDir(), ScriptDataDir: f.ScriptDataDir, Environ: func() []string { return p.childEnviron(files) }, Subsystems: subsystems,
		WebConfigFile: f.WebConfigFile, SSHMaxTimeout: f.SSHMaxTimeout, BlockFileTransfer: f.BlockTransfer,
		BlockLocalPortForwarding: f.BlockLocal, BlockReversePortForwarding: f.BlockReverse, ByteWindow: f.StatsWindow, TailnetListenPort: f.ListenPort,
		Now: wallClock(p.getenv),
	}
	if f.SSHAddress != "" {
		if o.SSHListener, err = listenPatiently(ctx, f.SSHAddress, takenPatience, log); err != nil {
			return fmt.Errorf("--ssh-address: %w", err)
		}
		o.AuthorizedKeys = agentssh.AuthorizedKeysFile(f.SSHKeys, log)
	}
	if f.PTYSocket != "" {
		if o.PTYListener, err = listenSocket(f.PTYSocket); err != nil {
			return fmt.Errorf("--pty-socket: %w", err)
		}
	}
	o.MetricsListener = listenMetrics(ctx, f.Prometheus, stateDir, log)
	a, err := agent.New(o)
	if err != nil {
		return err
	}
	if o.MetricsListener != nil {
		log.Info("serving metrics", "address", o.MetricsListener.Addr().String())
	}
	if o.SSHListener != nil {
		log.Info("serving SSH", "address", o.SSHListener.Addr().String())
	}
	side, endSide := context.WithCancel(context.WithoutCancel(ctx))
	var g errgroup.Group
	f.serveSide(side, &g, log, "pprof", f.Pprof, pprofHandler())
	f.serveSide(side, &g, log, "debug", f.Debug, a.DebugHandler())
	err = a.Run(ctx)
	endSide()
	return errors.Join(err, g.Wait())
}

// serveSide serves a page for operators; that it cannot is no reason to stop.
func (f flags) serveSide(ctx context.Context, g *errgroup.Group, log *slog.Logger, name, address string, h http.Handler) {
	if address == "" {
		return
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		log.Error("a page is not served", "page", name, "err", err)
		return
	}
	log.Info("serving a page for operators", "page", name, "address", l.Addr().String())
	g.Go(func() error {
		if err := webserve.Serve(ctx, l, webserve.Options{Handler: h, Log: log}); err != nil {
			log.Error("a page is no longer served", "page", name, "err", err)
		}
		return nil
	})
}

// childEnviron is what children inherit: the process's environment, with the
// directory of this binary at the end of PATH and the files that the helpers need.
func (p process) childEnviron(files clienttls.Files) []string {
	environ := p.environ()
	for name, path := range map[string]string{caVariable: files.CA, certVariable: files.Cert, keyVariable: files.Key} {
		environ = slices.DeleteFunc(environ, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		if path != "" {
			environ = append(environ, name+"="+path)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return environ
	}
	dir := filepath.Dir(self)
	for i, e := range environ {
		if strings.HasPrefix(e, "PATH=") {
			environ[i] = e + string(os.PathListSeparator) + dir
		}
	}
	return environ
}

func isDump(s os.Signal) bool { return s == syscall.SIGQUIT || s == syscall.SIGTRAP }
