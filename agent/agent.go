package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/worktally/worktally/agent/agentapps"
	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/agentscripts"
	"github.com/worktally/worktally/agent/reportclient"
	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/smallfile"
	"github.com/worktally/worktally/internal/webserve"
	"github.com/worktally/worktally/wire/agentpb"
)

// ErrReinit is returned by Run when the server asks the agent to start over: the
// caller creates a new one.
var ErrReinit = errors.New("the server asks the agent to start over")

// Agent is one workspace agent. It is run once.
type Agent struct {
	o        Options
	log      *slog.Logger
	tally    *stats.Tally
	commands *agentexec.Builder
	scripts  *agentscripts.Runner
	client   *reportclient.Client
	health   *agentapps.Health
	metadata *agentapps.Metadata
	table    *exposition.Table
	registry *prometheus.Registry
	token    atomic.Pointer[string]
	reinit   chan string
	// identity is what the newest manifest, or the last run, says.
	identity atomic.Pointer[identity]
	manifest atomic.Pointer[agentpb.Manifest]
	// net is the place on the tailnet, set when netUp is closed.
	net   atomic.Pointer[network]
	netUp chan struct{}
	// firstManifest is closed when the first manifest is in.
	firstManifest chan struct{}
	taken         sync.Once
	// readIdentity reads the file of an identity; tests let it hang.
	readIdentity func(path string, limit int) ([]byte, error)
}

// New checks the options and puts the parts together. Nothing runs before Run.
func New(o Options) (*Agent, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := webserve.Validate(o.WebConfigFile); err != nil {
		return nil, err
	}
	a := &Agent{
		o: o, log: o.Log,
		tally:         stats.New(stats.Options{ByteWindow: o.ByteWindow}),
		table:         exposition.NewTable(),
		registry:      exposition.NewRuntimeRegistry(),
		reinit:        make(chan string, 1),
		firstManifest: make(chan struct{}),
		netUp:         make(chan struct{}),
		readIdentity:  smallfile.Read,
	}
	a.commands, err = agentexec.New(agentexec.Options{
		Log: o.Log, Environ: o.Environ, Executable: o.Executable, AgentURL: o.URL.String(),
		ScriptBinDir: filepath.Join(o.ScriptDataDir, "coder-script-data", "bin"),
	})
	if err != nil {
		return nil, err
	}
	if a.scripts, err = agentscripts.New(agentscripts.Options{
		Log: o.Log, Commands: a.commands, Tally: a.tally, Sink: scriptSink{a}, LogDir: o.LogDir, DataDir: o.ScriptDataDir, Now: o.Now,
	}); err != nil {
		return nil, err
	}
	return a, a.newClient()
}

func (a *Agent) newClient() (err error) {
	o := a.o
	a.health = agentapps.NewHealth(agentapps.HealthOptions{Log: o.Log})
	if a.metadata, err = agentapps.NewMetadata(agentapps.MetadataOptions{Log: o.Log, Commands: a.commands}); err != nil {
		return err
	}
	resources := agentapps.NewResources(agentapps.ResourcesOptions{Log: o.Log})
	routines := []reportclient.Routine{
		{Name: "app health", UntilShutdown: true, Run: func(ctx context.Context, api agentpb.DRPCAgentClient) error { a.health.Run(ctx, api); return nil }},
		{Name: "metadata", UntilShutdown: true, Run: func(ctx context.Context, api agentpb.DRPCAgentClient) error { return a.metadata.Run(ctx, api) }},
		{Name: "resources", UntilShutdown: true, Run: func(ctx context.Context, api agentpb.DRPCAgentClient) error { return resources.Run(ctx, api) }},
	}
	if !o.DisableTailnet {
		routines = append(routines,
			reportclient.Routine{Name: "relay maps", UntilShutdown: true, Run: a.followRelays},
			reportclient.Routine{Name: "coordination", UntilShutdown: true, Run: a.coordinate})
	}
	a.client, err = reportclient.New(reportclient.Options{
		URL: o.URL, Token: a.currentToken, Header: o.Header, HTTPClient: o.HTTPClient, Log: o.Log,
		Tally: a.tally, OutboxDir: a.outboxDir, OutboxBytes: o.OutboxBytes, Now: o.Now, Version: o.Version, Subsystems: o.Subsystems, MetricsAddress: a.metricsAddress,
		OnManifest: a.takeManifest, OnReinit: a.startOver, BeforeWindow: a.probeForWindow,
		ReconnectMin: o.ReconnectMin, ReconnectMax: o.ReconnectMax,
		Routines: routines,
	})
	return err
}

// currentToken asks for the token and keeps it for children.
func (a *Agent) currentToken(ctx context.Context) (string, error) {
	token, err := a.o.Token(ctx)
	if err == nil {
		a.token.Store(&token)
	}
	return token, err
}

func (a *Agent) metricsAddress() string {
	if a.o.MetricsListener == nil {
		return ""
	}
	return a.o.MetricsListener.Addr().String()
}

func (a *Agent) startOver(reason string) {
	select {
	case a.reinit <- reason:
	default: // it was asked for already
	}
}

// Run works until the context ends, or until the server asks the agent to start
// over (ErrReinit). It returns after everything it started has ended, except what
// hangs in the disk.
func (a *Agent) Run(ctx context.Context) error {
	// What stops last ends with outer; the parts that are stopped in order end
	// with contexts of their own.
	outer, stopOuter := context.WithCancel(context.WithoutCancel(ctx))
	defer stopOuter()
	if r := a.o.Registerer; r != nil {
		c := exposition.NewCollector(a.page)
		if err := r.Register(c); err != nil {
			a.closeListeners()
			if a.o.MetricsListener != nil {
				_ = a.o.MetricsListener.Close()
			}
			return fmt.Errorf("register metrics: %w", err)
		}
		defer r.Unregister(c)
	}
	var page, client sync.WaitGroup
	if l := a.o.MetricsListener; l != nil {
		page.Go(func() {
			if err := webserve.Serve(outer, a.counted(l), webserve.Options{Handler: a.MetricsHandler(), ConfigFile: a.o.WebConfigFile, Log: a.log}); err != nil {
				a.log.Error("the metrics page is no longer served", "err", err)
			}
		})
	}
	clientCtx, stopClient := context.WithCancel(outer)
	client.Go(func() { a.client.Run(clientCtx) })
	life, endLife := context.WithCancel(outer)
	work := a.startServing(life)
	err := a.wait(ctx)
	a.stop(work, endLife)
	stopClient()
	client.Wait()
	stopOuter()
	page.Wait()
	return err
}

// wait returns nil when the context ends and ErrReinit when the server says so.
func (a *Agent) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case reason := <-a.reinit:
		return fmt.Errorf("%w: %s", ErrReinit, reason)
	}
}

// runScripts runs the start scripts and then the scheduled ones.
func (a *Agent) runScripts(life context.Context) {
	a.client.SetLifecycle(agentpb.Lifecycle_STARTING)
	started := time.Now()
	err := a.scripts.Start(life, scriptsOf(a.manifest.Load()))
	if life.Err() != nil {
		return
	}
	switch {
	case err == nil:
		a.client.SetLifecycle(agentpb.Lifecycle_READY)
		a.log.Info("start scripts ended", "duration_seconds", time.Since(started).Seconds())
	case errors.Is(err, agentscripts.ErrTimeout):
		a.client.SetLifecycle(agentpb.Lifecycle_START_TIMEOUT)
		a.log.Warn("a start script timed out", "err", err)
	default:
		a.client.SetLifecycle(agentpb.Lifecycle_START_ERROR)
		a.log.Warn("a start script failed", "err", err)
	}
	if err := a.scripts.RunCron(life); err != nil && life.Err() == nil {
		a.log.Error("scheduled scripts ended", "err", err)
	}
}
