package reportclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/google/uuid"
	"storj.io/drpc"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/durable"
	"github.com/worktally/worktally/internal/retry"
	"github.com/worktally/worktally/wire/agentpb"
)

// Options of a Client.
type Options struct {
	// URL is the server's access URL. Required.
	URL *url.URL
	// Token returns the agent's token; it is asked at every dial. Required.
	Token func(context.Context) (string, error)
	// Header returns extra headers for every request; nil means none.
	Header func(context.Context) (http.Header, error)
	// HTTPClient makes all requests; nil means http.DefaultClient.
	HTTPClient *http.Client
	Log        *slog.Logger
	// Tally is what is reported. Required.
	Tally *stats.Tally
	// OutboxDir names the directory that keeps what no server has taken in of an
	// agent of a workspace; no other process may use it meanwhile. "", or a nil
	// function, keeps it in memory.
	OutboxDir func(workspace uuid.UUID, agent string) string
	// OutboxBytes bounds the history in it; the oldest goes first. 0 means 64 MiB.
	OutboxBytes int64
	// Now is the wall clock, for what outlives the process; nil means time.Now.
	Now func() time.Time
	// Version is this build as semver with a leading v. Required.
	Version    string
	Subsystems []agentpb.Startup_Subsystem
	// MetricsAddress returns where the agent's own page is, "" if nowhere.
	MetricsAddress func() string
	// OnManifest takes each manifest in and returns the expanded directory of the
	// workspace. An error ends the session. Required.
	OnManifest func(context.Context, *agentpb.Manifest) (directory string, err error)
	// OnReinit is called when the server asks the agent to start over; nil means
	// that it is not listened for.
	OnReinit func(reason string)
	// Routines run in every session.
	Routines []Routine
	// BeforeWindow is called before each report window is cut, so that gauges can
	// be measured; it must return soon, because the window waits. Nil does nothing.
	BeforeWindow func(context.Context)
	// ReconnectMin and ReconnectMax bound the delay between attempts; 0 means
	// 100 ms and 10 s.
	ReconnectMin, ReconnectMax time.Duration
}

// Routine is a part of a session that belongs to another package.
type Routine struct {
	Name string
	// Run must return when the context ends. An error ends the session.
	Run func(context.Context, agentpb.DRPCAgentClient) error
	// UntilShutdown: the context ends when BeginShutdown is called.
	UntilShutdown bool
}

// Client holds the session with the server. Its methods are safe for concurrent
// use.
type Client struct {
	o           Options
	log         *slog.Logger
	reporter    *reporter
	lifecycle   *lifecycle
	logs        *logQueue
	connections *connectionQueue
	timings     *timingQueue
	banners     *banners
	wake        signal // something waits for deliver
	health      health
	// open dials; tests replace it.
	open func(context.Context) (drpc.Conn, error)
	// shutdown ends when BeginShutdown is called.
	shutdown      context.Context
	beginShutdown context.CancelFunc
}

// New checks the options. Nothing runs before Run.
func New(o Options) (*Client, error) {
	var errs []error
	if o.URL == nil || o.URL.Scheme != "http" && o.URL.Scheme != "https" || o.URL.Host == "" {
		errs = append(errs, fmt.Errorf("access URL %q is not an http or https URL", o.URL))
	}
	if o.Token == nil || o.Tally == nil || o.OnManifest == nil || o.Version == "" {
		errs = append(errs, errors.New("Token, Tally, OnManifest and Version are required"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if o.HTTPClient == nil {
		o.HTTPClient = http.DefaultClient
	}
	o.HTTPClient = withoutLeaks(o.HTTPClient, o.URL)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ReconnectMin <= 0 {
		o.ReconnectMin = 100 * time.Millisecond
	}
	if o.ReconnectMax <= 0 {
		o.ReconnectMax = 10 * time.Second
	}
	wake := newSignal()
	c := &Client{
		o:           o,
		log:         o.Log,
		wake:        wake,
		lifecycle:   newLifecycle(o.Tally, wake),
		logs:        newLogQueue(o.Tally, wake),
		connections: newConnectionQueue(o.Tally, wake),
		timings:     newTimingQueue(o.Tally, wake),
	}
	c.reporter = newReporter(o.Tally, newOutbox(durable.OS{}, o.Log, o.OutboxBytes, o.Now), o.Log, &c.health)
	if o.OutboxDir != nil {
		c.reporter.dir = o.OutboxDir
	}
	c.reporter.before = o.BeforeWindow
	c.open = c.dial
	c.shutdown, c.beginShutdown = context.WithCancel(context.Background())
	c.banners = &banners{until: c.shutdown, log: o.Log}
	return c, nil
}

// Run keeps a session with the server until the context ends. A lost session is
// dialled again after a jittered, growing delay, which starts over once a session
// has stood for as long as the longest delay: a server that accepts sessions and
// ends them at once must not be dialled ten times a second. It returns when
// everything has ended, or diskGrace after the context: what hangs in the disk then
// ends with the process.
func (c *Client) Run(ctx context.Context) {
	defer c.beginShutdown()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.run(ctx)
	}()
	<-ctx.Done()
	select {
	case <-ended:
	case <-time.After(diskGrace):
		c.log.Error("the disk does not answer; what was counted last may not be on it", "waited_seconds", diskGrace.Seconds())
	}
}

// diskGrace bounds how long a stop waits for the disk.
const diskGrace = 5 * time.Second

func (c *Client) run(ctx context.Context) {
	var work sync.WaitGroup
	work.Go(func() { c.reporter.cut(ctx) })
	if c.o.OnReinit != nil {
		work.Go(func() { c.watchReinit(ctx) })
	}
	c.keepSession(ctx)
	work.Wait()
	c.reporter.close()
}

func (c *Client) keepSession(ctx context.Context) {
	delay := retry.New(c.o.ReconnectMin, c.o.ReconnectMax)
	quiet := retry.NewLog(c.log, "session with the server")
	for reconnect := false; ctx.Err() == nil; {
		began, acknowledged := time.Now(), c.health.ok.Load()
		established, err := c.session(ctx, reconnect)
		if ctx.Err() != nil {
			return
		}
		if established {
			reconnect = true
			// A server that accepts sessions only to drop them is no success.
			if c.health.ok.Load() > acknowledged || time.Since(began) >= c.o.ReconnectMax {
				delay.Reset()
			}
			quiet.Succeeded()
			c.log.Info("session with the server ended", "err", err)
		} else {
			c.health.dialErrors.Add(1)
			quiet.Failed(err)
		}
		if delay.Wait(ctx) != nil {
			return
		}
	}
}

// Recall says whose counts these are before a server does, for an agent that
// remembers who it was. Their totals continue where the last process left them.
func (c *Client) Recall(workspace uuid.UUID, agent string) {
	c.reporter.recall(identity{workspace, agent})
}

// BeginShutdown ends the routines that a stopping agent no longer needs. Reports,
// lifecycle states, logs and connection reports go on.
func (c *Client) BeginShutdown() { c.beginShutdown() }
