package agentssh

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

// Commands builds what sessions run; *agentexec.Builder does.
type Commands interface {
	Command(ctx context.Context, r agentexec.Request) (*exec.Cmd, error)
	Settings() agentexec.Settings
	Home() (string, error)
	ExpandPath(path string) string
}

// Banner is an announcement shown at login.
type Banner struct {
	Enabled bool
	Message string
}

// ConnEvent is the start of a session that is reported to the server.
type ConnEvent struct {
	ID   uuid.UUID
	Kind stats.Kind
	// IP is where the client is, without port; empty if that means nothing (a
	// unix socket).
	IP   string
	Time time.Time
}

// Reporter learns of sessions. Each Connected is followed by one Disconnected of
// the same id. Calls come from many goroutines and must not block.
type Reporter interface {
	Connected(e ConnEvent)
	Disconnected(id uuid.UUID, code int, reason string)
}

// Options of a Server.
type Options struct {
	// Log; nil discards.
	Log *slog.Logger
	// Commands, Tally and HostKey are required.
	Commands Commands
	Tally    *stats.Tally
	HostKey  ssh.Signer
	// AuthorizedKeys returns the keys that Serve lets in, asked at every attempt.
	// Nil means that Serve lets everybody in.
	AuthorizedKeys func() ([]ssh.PublicKey, error)
	// MaxTimeout is how long a client may stay silent: keepalives go out three
	// times within it. Below 3 s it is the longest life of a connection instead.
	// 0 means 72 h.
	MaxTimeout time.Duration

	// BlockFileTransfer refuses SFTP and the commands known to copy files.
	BlockFileTransfer bool
	// BlockLocalForwarding refuses channels to ports and sockets of the workspace.
	BlockLocalForwarding bool
	// BlockReverseForwarding refuses listeners in the workspace.
	BlockReverseForwarding bool

	// Banners returns the announcements of the moment; nil for none.
	Banners func() []Banner
	// Connections is told of sessions; nil for nobody.
	Connections Reporter
	// Processes finds who is behind a forwarded port; nil asks the system.
	Processes Processes

	// HandshakeTimeout bounds the time until a client is let in. 0 means 30 s.
	HandshakeTimeout time.Duration
	// MaxConns bounds the connections, 0 means 1000, and MaxHandshakes those whose
	// clients are not let in yet, 0 means 128. MaxSessions (1000), MaxForwards
	// (2000) and MaxListeners (100) hold for one connection.
	MaxConns, MaxHandshakes, MaxSessions, MaxForwards, MaxListeners int
}

// complete checks the options and fills in the defaults.
func (o *Options) complete() error {
	var errs []error
	if o.Commands == nil {
		errs = append(errs, errors.New("ssh server: no Commands given"))
	}
	if o.Tally == nil {
		errs = append(errs, errors.New("ssh server: no Tally given"))
	}
	if o.HostKey == nil {
		errs = append(errs, errors.New("ssh server: no HostKey given"))
	}
	if o.MaxTimeout < 0 || o.HandshakeTimeout < 0 {
		errs = append(errs, errors.New("ssh server: a timeout is negative"))
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Connections == nil {
		o.Connections = noReports{}
	}
	if o.Banners == nil {
		o.Banners = func() []Banner { return nil }
	}
	if o.Processes == nil {
		o.Processes = NewProcesses("/proc")
	}
	setDefault(&o.MaxTimeout, 72*time.Hour)
	setDefault(&o.HandshakeTimeout, 30*time.Second)
	setDefault(&o.MaxConns, 1000)
	setDefault(&o.MaxHandshakes, 128)
	setDefault(&o.MaxSessions, 1000)
	setDefault(&o.MaxForwards, 2000)
	setDefault(&o.MaxListeners, 100)
	return errors.Join(errs...)
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

type noReports struct{}

func (noReports) Connected(ConnEvent)                 {}
func (noReports) Disconnected(uuid.UUID, int, string) {}
