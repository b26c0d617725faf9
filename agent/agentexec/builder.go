package agentexec

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync/atomic"
)

// Options of a Builder. The zero value works.
type Options struct {
	// Log; nil discards.
	Log *slog.Logger
	// Environ returns the agent's own environment; nil means os.Environ.
	Environ func() []string
	// Executable is the path of the agent's binary, which children reach as
	// GIT_ASKPASS, GIT_SSH_COMMAND and agent-exec. Empty means os.Executable.
	Executable string
	// ScriptBinDir comes first in the PATH of children; empty for none.
	ScriptBinDir string
	// AgentURL is exported as CODER_AGENT_URL if the environment has none; the
	// helpers need it.
	AgentURL string
	// User, Home and Shell replace what the operating system says.
	User, Home, Shell string
	// PasswdFile replaces /etc/passwd.
	PasswdFile string
}

// Settings are what a manifest says about commands. The maps must not be changed
// after they were handed over.
type Settings struct {
	// Directory is where commands start, before expansion; empty for the home.
	Directory string
	// MOTDFile is printed at login, before expansion; empty for none.
	MOTDFile string
	// Env holds values that may refer to the agent's environment.
	Env map[string]string
	// Secrets are set as they are.
	Secrets map[string]string

	OwnerName, WorkspaceName, WorkspaceID, AgentName string
	// Token returns the session token in use; nil for none. It is called for
	// every command and must not block.
	Token func() string
	// ProxyURI is VSCODE_PROXY_URI; empty leaves the variable alone.
	ProxyURI string
}

// Builder makes commands. Create it with New.
type Builder struct {
	log      *slog.Logger
	environ  func() []string
	o        Options
	settings atomic.Pointer[Settings]
}

// New returns a Builder with empty settings.
func New(o Options) (*Builder, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Environ == nil {
		o.Environ = os.Environ
	}
	if o.PasswdFile == "" {
		o.PasswdFile = "/etc/passwd"
	}
	if o.Executable == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find the agent's own binary: %w", err)
		}
		o.Executable = self
	}
	b := &Builder{log: o.Log, environ: o.Environ, o: o}
	b.settings.Store(&Settings{})
	return b, nil
}

// Update replaces the settings for the commands built from now on.
func (b *Builder) Update(s Settings) {
	s.Env, s.Secrets = maps.Clone(s.Env), maps.Clone(s.Secrets)
	b.settings.Store(&s)
}

// Settings returns the settings in use.
func (b *Builder) Settings() Settings { return *b.settings.Load() }
