package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
	_ "time/tzdata" // schedules name time zones, and a container may have none

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server"
)

// serverCmd is "worktally server".
type serverCmd struct {
	HTTPAddress   string               `name:"http-address" envs:"WORKTALLY_HTTP_ADDRESS,CODER_HTTP_ADDRESS" default:"127.0.0.1:3000" help:"Where agents and people connect."`
	HTTPWebConfig string               `name:"http-web-config-file" envs:"WORKTALLY_HTTP_WEB_CONFIG_FILE" placeholder:"FILE" help:"Prometheus web config file with TLS, and which client certificates to ask for, for agents and people; no users."`
	AccessURL     string               `name:"access-url" envs:"WORKTALLY_ACCESS_URL,CODER_ACCESS_URL" placeholder:"URL" help:"How agents reach the server, default http, or https with TLS, and the address it listens on."`
	StateDir      string               `name:"state-dir" envs:"WORKTALLY_STATE_DIR" placeholder:"DIR" help:"Where the database is, default $$XDG_STATE_HOME/worktally."`
	DatabaseFile  string               `name:"database-url-file" envs:"WORKTALLY_DATABASE_URL_FILE" placeholder:"FILE" help:"File with a postgres:// URL or the path of a SQLite file; the URL may also stand in $$WORKTALLY_DATABASE_URL or $$CODER_PG_CONNECTION_URL. Default SQLite in the state directory."`
	SetAside      bool                 `name:"set-aside-corrupt-database" envs:"WORKTALLY_SET_ASIDE_CORRUPT_DATABASE" help:"Start with an empty database if the SQLite one is so damaged that workspaces, users and tokens cannot be read from it; the damaged file is kept under a new name."`
	StatsInterval time.Duration        `name:"agent-stats-refresh-interval" envs:"WORKTALLY_AGENT_STATS_REFRESH_INTERVAL,CODER_AGENT_STATS_REFRESH_INTERVAL" default:"30s" help:"How often agents report."`
	Prometheus    bool                 `name:"prometheus-enable" envs:"WORKTALLY_PROMETHEUS_ENABLE,CODER_PROMETHEUS_ENABLE" help:"Serve the metrics page."`
	PromAddress   string               `name:"prometheus-address" envs:"WORKTALLY_PROMETHEUS_ADDRESS,CODER_PROMETHEUS_ADDRESS" default:"127.0.0.1:2112" help:"Where the metrics page listens."`
	CollectStats  bool                 `name:"prometheus-collect-agent-stats" envs:"WORKTALLY_PROMETHEUS_COLLECT_AGENT_STATS,CODER_PROMETHEUS_COLLECT_AGENT_STATS" help:"Show on the metrics page what agents report."`
	CollectNet    bool                 `name:"prometheus-collect-overlay-metrics" envs:"WORKTALLY_PROMETHEUS_COLLECT_OVERLAY_METRICS" help:"Also show the overlay library's metrics that stock agents forward, about a hundred series for each."`
	Labels        exposition.LabelMode `name:"metrics-labels" envs:"WORKTALLY_METRICS_LABELS" default:"both" placeholder:"both|seed|live" help:"Labels of the families whose published and real labels differ: both, seed or live."`
	Deprecated    bool                 `name:"metrics-deprecated" envs:"WORKTALLY_METRICS_DEPRECATED" default:"true" negatable:"" help:"Show families that have a replacement too."`
	WebConfig     string               `name:"prometheus-web-config-file" envs:"WORKTALLY_PROMETHEUS_WEB_CONFIG_FILE" placeholder:"FILE" help:"Prometheus web config file with TLS and users for the metrics page."`
	StatsWindow   time.Duration        `name:"agent-stats-window" envs:"WORKTALLY_AGENT_STATS_WINDOW" default:"60s" help:"Span of the rx and tx byte gauges."`
	RelayEnable   bool                 `name:"derp-server-enable" envs:"WORKTALLY_DERP_SERVER_ENABLE,CODER_DERP_SERVER_ENABLE" default:"true" negatable:"" help:"Serve a relay on the HTTP address."`
	RelayRegion   int                  `name:"derp-server-region-id" envs:"WORKTALLY_DERP_SERVER_REGION_ID,CODER_DERP_SERVER_REGION_ID" default:"999" help:"Number of the region of the server's relay."`
	RelayCode     string               `name:"derp-server-region-code" envs:"WORKTALLY_DERP_SERVER_REGION_CODE,CODER_DERP_SERVER_REGION_CODE" default:"coder" help:"Code of that region."`
	RelayName     string               `name:"derp-server-region-name" envs:"WORKTALLY_DERP_SERVER_REGION_NAME,CODER_DERP_SERVER_REGION_NAME" default:"Coder Embedded Relay" help:"Name of that region."`
	STUNServers   []string             `name:"derp-server-stun-addresses" envs:"WORKTALLY_DERP_SERVER_STUN_ADDRESSES,CODER_DERP_SERVER_STUN_ADDRESSES" sep:"," placeholder:"HOST:PORT" help:"STUN servers that peers may ask, comma separated, default none; \"disable\" means none too."`
	STUNAddress   string               `name:"stun-address" envs:"WORKTALLY_STUN_ADDRESS" placeholder:"ADDRESS" help:"UDP address of the server's own STUN service, default none; name it in --derp-server-stun-addresses as peers reach it."`
	RelayConfig   string               `name:"derp-config-path" envs:"WORKTALLY_DERP_CONFIG_PATH,CODER_DERP_CONFIG_PATH" placeholder:"FILE" help:"Further relays: a relay map in Tailscale's JSON form."`
	BlockDirect   bool                 `name:"block-direct-connections" envs:"WORKTALLY_BLOCK_DIRECT,CODER_BLOCK_DIRECT" help:"Keep peers on relays."`
	ForceWS       bool                 `name:"derp-force-websockets" envs:"WORKTALLY_DERP_FORCE_WEBSOCKETS,CODER_DERP_FORCE_WEBSOCKETS" help:"Make peers reach relays by websocket."`
	ExternalAuth  string               `name:"external-auth-file" envs:"WORKTALLY_EXTERNAL_AUTH_FILE" placeholder:"FILE" help:"External git providers, in YAML or JSON."`
	SecretsKey    string               `name:"secrets-key-file" envs:"WORKTALLY_SECRETS_KEY_FILE" placeholder:"FILE" help:"File with the 32 bytes that seal git tokens and SSH keys in the database, the same for all replicas; default one in the state directory, made once."`
	LicenceFile   string               `name:"licence-file" envs:"WORKTALLY_LICENCE_FILE" placeholder:"FILE" help:"Signed licence; it is read again when it changes."`
	LicenceKey    string               `name:"licence-public-key-file" envs:"WORKTALLY_LICENCE_PUBLIC_KEY_FILE" placeholder:"FILE" help:"Public key of who signs licences."`
	FirstUser     string               `name:"first-username" envs:"WORKTALLY_FIRST_USERNAME" default:"admin" help:"Name of the administrator that is created at the first start; the token is printed once."`
	AuditLog      string               `name:"audit-log" envs:"WORKTALLY_AUDIT_LOG" placeholder:"FILE" help:"File for the audit log: who connected, from where and to what, and who changed what, as JSON lines; default none."`
	LogJSON       bool                 `name:"log-json" envs:"WORKTALLY_LOG_JSON" help:"Write the log as JSON."`
	Verbose       bool                 `name:"verbose" envs:"WORKTALLY_VERBOSE,CODER_VERBOSE" help:"Also log what is only of use to find a fault."`
}

// notHonoured are the variables of the reference server that would change what
// ours does and that it does not know how to honour: starting anyway would be a
// lie.
func notHonoured() []string {
	return []string{
		"CODER_WILDCARD_ACCESS_URL", "CODER_PROMETHEUS_AGGREGATE_AGENT_STATS_BY", "CODER_PROMETHEUS_COLLECT_DB_METRICS",
		"CODER_METRICS_CACHE_REFRESH_INTERVAL", "CODER_AGENT_FALLBACK_TROUBLESHOOTING_URL",

		"CODER_DERP_SERVER_RELAY_URL",
		"CODER_DERP_CONFIG_URL", "CODER_WORKSPACE_HOSTNAME_SUFFIX", "CODER_API_RATE_LIMIT",
		"CODER_BROWSER_ONLY", "CODER_EXPERIMENTS", "CODER_PPROF_ENABLE", "CODER_PPROF_ADDRESS", "CODER_TLS_ENABLE", "CODER_TLS_ADDRESS",
	}
}

// Run serves until the context ends.
func (c serverCmd) Run(p *program) error {
	o, err := c.options(p)
	if err != nil {
		return usageError{err}
	}
	s, err := server.New(p.ctx, o)
	if err != nil {
		return err
	}
	err = s.Run(p.ctx)
	if errors.Is(err, context.Canceled) && p.ctx.Err() != nil {
		return nil
	}
	return err
}

func (c serverCmd) options(p *program) (o server.Options, err error) {
	var errs []error
	for _, name := range notHonoured() {
		if p.getenv(name) != "" {
			errs = append(errs, fmt.Errorf("%s is set, and this server does not honour it; unset it", name))
		}
	}
	o = server.Options{
		AuditLog: c.AuditLog, HTTPAddress: c.HTTPAddress, HTTPWebConfigFile: c.HTTPWebConfig, StateDir: c.StateDir, StatsInterval: c.StatsInterval,
		FirstUsername: c.FirstUser, FirstToken: p.stdout, Log: c.log(p), Now: wallClock(p.getenv),
		Prometheus: server.Prometheus{
			Enable: c.Prometheus, Address: c.PromAddress, CollectAgentStats: c.CollectStats, CollectOverlay: c.CollectNet,
			Labels: c.Labels, HideDeprecated: !c.Deprecated, WebConfigFile: c.WebConfig, ByteWindow: c.StatsWindow,
		},
	}
	o.STUNAddress, o.SetAsideDatabase = c.STUNAddress, c.SetAside
	o.ExternalAuthFile, o.SecretsKeyFile = c.ExternalAuth, c.SecretsKey
	o.LicenceFile, o.LicencePublicKeyFile = c.LicenceFile, c.LicenceKey
	o.Relays = server.Relays{
		Disable: !c.RelayEnable, RegionID: c.RelayRegion, RegionCode: c.RelayCode, RegionName: c.RelayName,
		ConfigFile: c.RelayConfig, BlockDirect: c.BlockDirect, ForceWebsockets: c.ForceWS,
	}
	if len(c.STUNServers) != 1 || c.STUNServers[0] != "disable" {
		o.Relays.STUN = c.STUNServers
	}
	if c.CollectStats && !c.Prometheus {
		errs = append(errs, errors.New("--prometheus-collect-agent-stats (CODER_PROMETHEUS_COLLECT_AGENT_STATS) needs --prometheus-enable (CODER_PROMETHEUS_ENABLE)"))
	}
	if (c.LicenceFile == "") != (c.LicenceKey == "") {
		errs = append(errs, errors.New("--licence-file (WORKTALLY_LICENCE_FILE) and --licence-public-key-file (WORKTALLY_LICENCE_PUBLIC_KEY_FILE) go together"))
	}
	if c.StatsInterval < time.Second {
		errs = append(errs, fmt.Errorf("--agent-stats-refresh-interval (CODER_AGENT_STATS_REFRESH_INTERVAL): %s is less than 1s", c.StatsInterval))
	}
	if c.StatsWindow < time.Second {
		errs = append(errs, fmt.Errorf("--agent-stats-window (WORKTALLY_AGENT_STATS_WINDOW): %s is less than 1s", c.StatsWindow))
	}
	if c.AccessURL != "" {
		if o.AccessURL, err = url.Parse(c.AccessURL); err != nil {
			errs = append(errs, fmt.Errorf("--access-url (CODER_ACCESS_URL): %w", err))
		}
	}
	if o.DatabaseDSN, err = c.database(p); err != nil {
		errs = append(errs, err)
	}
	if o.StateDir == "" && o.DatabaseDSN == "" {
		o.StateDir, err = defaultStateDir(p)
		errs = append(errs, err)
	}
	return o, errors.Join(errs...)
}

// database returns the database's URL, which is a secret and no flag.
func (c serverCmd) database(p *program) (string, error) {
	if c.DatabaseFile != "" {
		text, err := os.ReadFile(c.DatabaseFile)
		if err != nil {
			return "", fmt.Errorf("--database-url-file (WORKTALLY_DATABASE_URL_FILE): %w", err)
		}
		return strings.TrimSpace(string(text)), nil
	}
	if dsn := p.getenv("WORKTALLY_DATABASE_URL"); dsn != "" {
		return dsn, nil
	}
	return p.getenv("CODER_PG_CONNECTION_URL"), nil
}

func defaultStateDir(p *program) (string, error) {
	if dir := p.getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "worktally"), nil
	}
	home := p.getenv("HOME")
	if home == "" {
		return "", errors.New("--state-dir (WORKTALLY_STATE_DIR): neither it nor HOME is set")
	}
	return filepath.Join(home, ".local", "state", "worktally"), nil
}

func (c serverCmd) log(p *program) *slog.Logger {
	o := &slog.HandlerOptions{}
	if c.Verbose {
		o.Level = slog.LevelDebug
	}
	if c.LogJSON {
		return slog.New(slog.NewJSONHandler(p.stderr, o))
	}
	return slog.New(slog.NewTextHandler(p.stderr, o))
}
