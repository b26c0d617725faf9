package agent

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
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/internal/buildinfo"
	"github.com/worktally/worktally/wire/agentpb"
)

// Options of an Agent. URL and Token are required; the zero value of anything
// else means its default.
type Options struct {
	// URL is the server's access URL.
	URL *url.URL
	// Token returns the agent's token; it is asked at every dial.
	Token func(context.Context) (string, error)
	// Header returns extra headers for every request to the server.
	Header func(context.Context) (http.Header, error)
	// HTTPClient makes all requests to the server; nil means http.DefaultClient. If
	// its transport is an *http.Transport its TLS settings (authorities, client
	// certificate) are those for relays too.
	HTTPClient *http.Client
	// Log takes what the agent has to say; nil discards it.
	Log *slog.Logger

	// StateDir keeps what must outlive the process: identity, host key, counts and
	// reports, below workspace and agent name. "" keeps nothing.
	StateDir string
	// LogDir holds script logs, ScriptDataDir the scripts' data; "" means the
	// directory for temporary files.
	LogDir, ScriptDataDir string
	// Executable is the binary that children call for git and askpass; "" means
	// the running one, which must then offer those commands.
	Executable string
	// Environ returns the environment that children inherit; nil means the
	// process's.
	Environ func() []string
	// OutboxBytes bounds the history of reports that wait in the state directory
	// for a server; the oldest goes first, totals never. 0 means 64 MiB.
	OutboxBytes int64
	// Now is the wall clock, for schedules and what outlives the process; nil means
	// time.Now.
	Now func() time.Time

	// Version is reported to the server, semver with a leading v; "" means the
	// version of the running binary.
	Version    string
	Subsystems []agentpb.Startup_Subsystem

	// SSHListener serves SSH to the holders of AuthorizedKeys, which is asked at
	// every attempt. Both or none.
	SSHListener    net.Listener
	AuthorizedKeys func() ([]ssh.PublicKey, error)
	// PTYListener serves reconnecting terminals to everybody who can reach it: a
	// unix socket that only the user can open.
	PTYListener net.Listener
	// MetricsListener serves the metrics page; nil serves none. The page is also
	// there as MetricsHandler and, for a registry of one's own, through
	// Registerer.
	MetricsListener net.Listener
	// WebConfigFile is a Prometheus web config file for the MetricsListener.
	WebConfigFile string
	// Registerer gets the agent's families; it is left clean when Run returns.
	Registerer prometheus.Registerer

	// SSHMaxTimeout bounds the silence of SSH clients; 0 means 72 h.
	SSHMaxTimeout                                        time.Duration
	BlockFileTransfer                                    bool
	BlockLocalPortForwarding, BlockReversePortForwarding bool
	// PTYTimeout ends a terminal that nobody is attached to; 0 means 5 min.
	PTYTimeout time.Duration
	// ByteWindow is the span of the rx and tx gauges; 0 means 60 s.
	ByteWindow time.Duration
	// TailnetListenPort is the UDP port of the tailnet; 0 means any.
	TailnetListenPort uint16
	// DisableTailnet keeps the agent off the tailnet.
	DisableTailnet bool
	// HiddenPorts are the embedding program's own; they are not offered to people
	// as ports of the workspace.
	HiddenPorts []uint16
	// ReconnectMin and ReconnectMax bound the delay between attempts to reach the
	// server; 0 means 100 ms and 10 s.
	ReconnectMin, ReconnectMax time.Duration
}

func (o Options) withDefaults() (Options, error) {
	var errs []error
	if o.URL == nil || o.URL.Scheme != "http" && o.URL.Scheme != "https" || o.URL.Host == "" {
		errs = append(errs, fmt.Errorf("access URL %q is not an http or https URL", o.URL))
	}
	if o.Token == nil {
		errs = append(errs, errors.New("no agent token is given"))
	}
	if (o.SSHListener == nil) != (o.AuthorizedKeys == nil) {
		errs = append(errs, errors.New("an SSH listener needs authorized keys, and authorized keys need an SSH listener"))
	}
	if o.HTTPClient == nil {
		o.HTTPClient = http.DefaultClient
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.LogDir == "" {
		o.LogDir = os.TempDir()
	}
	if o.ScriptDataDir == "" {
		o.ScriptDataDir = os.TempDir()
	}
	// Children start in directories of their own, where a relative path means
	// something else.
	for _, dir := range []*string{&o.StateDir, &o.LogDir, &o.ScriptDataDir} {
		if *dir == "" {
			continue
		}
		abs, err := filepath.Abs(*dir)
		if err != nil {
			errs = append(errs, fmt.Errorf("directory %q: %w", *dir, err))
			continue
		}
		*dir = abs
	}
	if o.Version == "" {
		o.Version = buildinfo.Get().Version
	}
	return o, errors.Join(errs...)
}
