package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"time"

	"github.com/worktally/worktally/exposition"
)

// Options of a Server. The zero value of a field means its default.
type Options struct {
	// HTTPAddress is where agents and people connect; "" means 127.0.0.1:3000.
	HTTPAddress string
	// HTTPWebConfigFile is a Prometheus web config file for that listener: TLS, and
	// which certificates of clients are asked for. It may have no users: agents and
	// people send tokens. Certificates are read again for every connection. "" means
	// plain HTTP.
	HTTPWebConfigFile string
	// AccessURL is how agents reach the server; nil means http, https with TLS, and
	// the bound address.
	AccessURL *url.URL
	// StateDir holds the database unless DatabaseDSN names one. Required then.
	StateDir string
	// DatabaseDSN is a SQLite file or a postgres:// URL; "" means worktally.db in
	// StateDir. It is a secret.
	DatabaseDSN string
	// SetAsideDatabase lets an SQLite database that is so damaged that workspaces,
	// users and tokens are lost be replaced by an empty one. The damaged file is kept.
	SetAsideDatabase bool
	// StatsInterval is the report interval that agents are told; 0 means 30 s.
	StatsInterval time.Duration
	// AgentPingInterval is the liveness period; 0 means 15 s.
	AgentPingInterval time.Duration
	// FirstUsername is who gets the first admin token; "" means admin.
	FirstUsername string
	// FirstToken is where the first admin token is printed, once; nil throws it
	// away.
	FirstToken io.Writer
	Prometheus Prometheus
	Relays     Relays
	// ExternalAuthFile names external git providers; "" means none.
	ExternalAuthFile string
	// SecretsKeyFile has the key that seals tokens and SSH keys in the database, 32
	// bytes; "" means one in StateDir, made once. Without StateDir there are no SSH
	// keys, and there may be no providers.
	SecretsKeyFile string
	// LicenceFile and LicencePublicKeyFile are a signed licence and the key of who
	// signed it; "" means none.
	LicenceFile, LicencePublicKeyFile string
	// HostnameSuffix is the domain under which clients name workspaces for SSH; ""
	// means none.
	HostnameSuffix string
	// STUNAddress is the UDP address of the server's own STUN service; "" means
	// none.
	STUNAddress string
	// AuditLog is a file for the audit log; "" means none.
	AuditLog string
	Log      *slog.Logger
	// Now is the wall clock, for what is stored and compared with what is; nil means
	// time.Now. How long something takes is measured without it.
	Now func() time.Time
	// HTTPListener and PrometheusListener take the place of addresses, for tests
	// and embedding. The server closes them.
	HTTPListener, PrometheusListener net.Listener

	tls bool // HTTPWebConfigFile asks for it
}

// Prometheus says what the metrics page shows and where.
type Prometheus struct {
	Enable bool
	// Address is where it listens; "" means 127.0.0.1:2112.
	Address string
	// CollectAgentStats shows what agents report.
	CollectAgentStats bool
	// CollectOverlay also shows the overlay library's metrics of stock agents.
	CollectOverlay bool
	// Labels chooses the labels of families whose published and real ones differ.
	Labels exposition.LabelMode
	// HideDeprecated leaves out the families that have a replacement.
	HideDeprecated bool
	// WebConfigFile is a web config file for TLS and users.
	WebConfigFile string
	// ByteWindow is the span of the rx and tx gauges; 0 means 60 s.
	ByteWindow time.Duration
}

// withDefaults fills in the defaults and checks everything at once.
func (o Options) withDefaults() (Options, error) {
	if o.HTTPAddress == "" {
		o.HTTPAddress = "127.0.0.1:3000"
	}
	if o.Prometheus.Address == "" {
		o.Prometheus.Address = "127.0.0.1:2112"
	}
	if o.FirstUsername == "" {
		o.FirstUsername = "admin"
	}
	if o.FirstToken == nil {
		o.FirstToken = io.Discard
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	var errs []error
	if o.DatabaseDSN == "" {
		if o.StateDir == "" {
			errs = append(errs, errors.New("neither a state directory nor a database is given"))
		}
		o.DatabaseDSN = filepath.Join(o.StateDir, "worktally.db")
	}
	for name, address := range map[string]string{"HTTP address": o.HTTPAddress, "Prometheus address": o.Prometheus.Address} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			errs = append(errs, fmt.Errorf("%s %q: %w", name, address, err))
		}
	}
	if u := o.AccessURL; u != nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		errs = append(errs, fmt.Errorf("access URL %q is not an http or https URL", u))
	}
	if o.StatsInterval < 0 || o.StatsInterval > 0 && o.StatsInterval < time.Second || o.StatsInterval > time.Hour {
		errs = append(errs, fmt.Errorf("stats interval %s is not between 1s and 1h", o.StatsInterval))
	}
	return o, errors.Join(errs...)
}
