package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire/agentpb"
)

// flags is the command line of the agent. Names, variables and defaults are those
// of "coder agent" where it has them.
type flags struct {
	URL           string        `name:"agent-url" envs:"CODER_AGENT_URL" placeholder:"URL" help:"The server, such as https://worktally.example.com."`
	Token         string        `name:"agent-token" hidden:"" help:"The agent's token; other users can read it in the list of processes, so use the variable or the file."`
	TokenFile     string        `name:"agent-token-file" envs:"CODER_AGENT_TOKEN_FILE" placeholder:"FILE" help:"File with the agent's token, which otherwise comes from $$CODER_AGENT_TOKEN."`
	Auth          string        `name:"auth" envs:"CODER_AGENT_AUTH" default:"token" enum:"token,google-instance-identity,aws-instance-identity,azure-instance-identity" help:"How the agent gets its token: token, google-instance-identity, aws-instance-identity or azure-instance-identity."`
	Header        []string      `name:"agent-header" envs:"CODER_AGENT_HEADER" placeholder:"KEY=VALUE" help:"Header for every request to the server, repeatable."`
	HeaderCommand string        `name:"agent-header-command" envs:"CODER_AGENT_HEADER_COMMAND" placeholder:"COMMAND" help:"Command that prints such headers, one key=value a line."`
	TLSCA         string        `name:"tls-ca-file" envs:"WORKTALLY_AGENT_TLS_CA_FILE" placeholder:"FILE" help:"Certificates of authorities that are trusted for the server and relays beside the system's."`
	TLSCert       string        `name:"tls-client-cert-file" envs:"WORKTALLY_AGENT_TLS_CLIENT_CERT_FILE" placeholder:"FILE" help:"Certificate that the agent shows to servers that ask for one, read for every connection."`
	TLSKey        string        `name:"tls-client-key-file" envs:"WORKTALLY_AGENT_TLS_CLIENT_KEY_FILE" placeholder:"FILE" help:"Key of that certificate."`
	LogDir        string        `name:"log-dir" envs:"CODER_AGENT_LOG_DIR" placeholder:"DIR" help:"Where the agent's and the scripts' logs go, default the directory for temporary files."`
	ScriptDataDir string        `name:"script-data-dir" envs:"CODER_AGENT_SCRIPT_DATA_DIR" placeholder:"DIR" help:"Where scripts keep data, default the directory for temporary files."`
	StateDir      string        `name:"state-dir" envs:"WORKTALLY_AGENT_STATE_DIR" placeholder:"DIR" help:"What must outlive the process, default $$XDG_STATE_HOME/worktally-agent."`
	OutboxMiB     uint16        `name:"outbox-max-mib" envs:"WORKTALLY_AGENT_OUTBOX_MAX_MIB" default:"64" placeholder:"MIB" help:"Bound of the report history that waits for the server in the state directory; the oldest goes first, totals never."`
	NoReap        bool          `name:"no-reap" help:"Do not start a parent that reaps processes when running as process 1."`
	Prometheus    string        `name:"prometheus-address" envs:"CODER_AGENT_PROMETHEUS_ADDRESS" default:"127.0.0.1:2112" placeholder:"ADDRESS" help:"Where the metrics page listens; if the port is taken a free one is used; empty turns it off."`
	WebConfigFile string        `name:"web-config-file" envs:"WORKTALLY_AGENT_WEB_CONFIG_FILE" placeholder:"FILE" help:"Prometheus web config file with TLS and users for the metrics page."`
	Pprof         string        `name:"pprof-address" envs:"CODER_AGENT_PPROF_ADDRESS" placeholder:"ADDRESS" help:"Where profiles are served, default nowhere."`
	Debug         string        `name:"debug-address" envs:"CODER_AGENT_DEBUG_ADDRESS" placeholder:"ADDRESS" help:"Where debug pages are served, default nowhere."`
	SSHAddress    string        `name:"ssh-address" envs:"WORKTALLY_AGENT_SSH_ADDRESS" placeholder:"ADDRESS" help:"Where SSH listens on plain TCP, default nowhere; needs --ssh-authorized-keys."`
	SSHKeys       string        `name:"ssh-authorized-keys" envs:"WORKTALLY_AGENT_SSH_AUTHORIZED_KEYS" placeholder:"FILE" help:"Keys that may use --ssh-address, in OpenSSH's format, read at every attempt."`
	PTYSocket     string        `name:"pty-socket" envs:"WORKTALLY_AGENT_PTY_SOCKET" placeholder:"PATH" help:"Unix socket for reconnecting terminals, open to the agent's user only, default none."`
	SSHMaxTimeout time.Duration `name:"ssh-max-timeout" envs:"CODER_AGENT_SSH_MAX_TIMEOUT" default:"72h" help:"How long a silent SSH client is kept."`
	BlockTransfer bool          `name:"block-file-transfer" envs:"CODER_AGENT_BLOCK_FILE_TRANSFER" help:"Refuse SFTP and the commands that copy files."`
	BlockLocal    bool          `name:"block-local-port-forwarding" envs:"CODER_AGENT_BLOCK_LOCAL_PORT_FORWARDING" help:"Refuse forwarding to ports of the workspace."`
	BlockReverse  bool          `name:"block-reverse-port-forwarding" envs:"CODER_AGENT_BLOCK_REVERSE_PORT_FORWARDING" help:"Refuse forwarding from ports of the workspace."`
	StatsWindow   time.Duration `name:"agent-stats-window" envs:"WORKTALLY_AGENT_STATS_WINDOW" default:"60s" help:"Span of the rx and tx byte gauges."`
	LogHuman      string        `name:"log-human" envs:"CODER_AGENT_LOGGING_HUMAN" default:"/dev/stderr" placeholder:"PATH" help:"Where the log goes for people; empty for nowhere."`
	LogJSON       string        `name:"log-json" envs:"CODER_AGENT_LOGGING_JSON" placeholder:"PATH" help:"Where the log goes as JSON, default nowhere."`
	LogStack      string        `name:"log-stackdriver" envs:"CODER_AGENT_LOGGING_STACKDRIVER" placeholder:"PATH" help:"Where the log goes in the form of Stackdriver, default nowhere."`
	ListenPort    uint16        `name:"tailnet-listen-port" envs:"CODER_AGENT_TAILNET_LISTEN_PORT" default:"0" help:"UDP port of the tailnet, 0 for any."`
	Devcontainers bool          `name:"devcontainers-enable" envs:"CODER_AGENT_DEVCONTAINERS_ENABLE" default:"false" help:"Accepted for compatibility: dev containers are not supported."`
	Discovery     bool          `name:"devcontainers-project-discovery-enable" envs:"CODER_AGENT_DEVCONTAINERS_PROJECT_DISCOVERY_ENABLE" default:"false" help:"Accepted for compatibility: dev containers are not supported."`
}

// usageErr marks an error of whoever started the program.
type usageErr struct{ error }

func isUsage(err error) bool {
	_, ok := errors.AsType[usageErr](err)
	return ok
}

// check validates everything at once.
func (f flags) check(getenv func(string) string) (*url.URL, []agentpb.Startup_Subsystem, error) {
	var errs []error
	u, err := url.Parse(f.URL)
	if f.URL == "" {
		errs = append(errs, errors.New("--agent-url (CODER_AGENT_URL): no server is given"))
	} else if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		errs = append(errs, fmt.Errorf("--agent-url (CODER_AGENT_URL): %q is not an http or https URL", f.URL))
	}
	if f.Auth == "token" && f.Token == "" && f.TokenFile == "" && getenv("CODER_AGENT_TOKEN") == "" {
		errs = append(errs, errors.New("--agent-token-file (CODER_AGENT_TOKEN_FILE, CODER_AGENT_TOKEN): no agent token is given"))
	}
	if err := f.checkTLS(); err != nil {
		errs = append(errs, err)
	}
	if (f.SSHAddress == "") != (f.SSHKeys == "") {
		errs = append(errs, errors.New("--ssh-address (WORKTALLY_AGENT_SSH_ADDRESS) and --ssh-authorized-keys (WORKTALLY_AGENT_SSH_AUTHORIZED_KEYS): give both or none"))
	}
	if f.StatsWindow < time.Second {
		errs = append(errs, fmt.Errorf("--agent-stats-window (WORKTALLY_AGENT_STATS_WINDOW): %s is less than 1s", f.StatsWindow))
	}
	if f.SSHMaxTimeout <= 0 {
		errs = append(errs, fmt.Errorf("--ssh-max-timeout (CODER_AGENT_SSH_MAX_TIMEOUT): %s is not positive", f.SSHMaxTimeout))
	}
	for _, h := range f.Header {
		if _, _, err := headerLine(h); err != nil {
			errs = append(errs, fmt.Errorf("--agent-header (CODER_AGENT_HEADER): %w", err))
		}
	}
	subsystems, err := subsystemsOf(getenv("CODER_AGENT_SUBSYSTEM"))
	if err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, usageErr{err}
	}
	return u, subsystems, nil
}

func subsystemsOf(list string) ([]agentpb.Startup_Subsystem, error) {
	var subsystems []agentpb.Startup_Subsystem
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if name == "" {
			continue
		}
		v, ok := agentpb.Startup_Subsystem_value[strings.ToUpper(name)]
		if !ok || v == 0 || name != strings.ToLower(name) {
			return nil, fmt.Errorf("CODER_AGENT_SUBSYSTEM: %q is none of envbox, envbuilder, exectrace", name)
		}
		subsystems = append(subsystems, agentpb.Startup_Subsystem(v))
	}
	return subsystems, nil
}

// tokenSource returns where the token comes from when the server is dialled.
func (f flags) tokenSource(getenv func(string) string) func(context.Context) (string, error) {
	given := f.Token
	if given == "" {
		given = getenv("CODER_AGENT_TOKEN")
	}
	return func(context.Context) (string, error) {
		token := given
		if token == "" {
			text, err := os.ReadFile(f.TokenFile)
			if err != nil {
				return "", fmt.Errorf("read token file: %w", err)
			}
			token = strings.TrimSpace(string(text))
		}
		if _, err := uuid.Parse(token); err != nil {
			return "", errors.New("the agent token is not a UUID")
		}
		return token, nil
	}
}

func headerLine(line string) (key, value string, err error) {
	key, value, ok := strings.Cut(line, "=")
	if key = strings.TrimSpace(key); !ok || key == "" {
		return "", "", errors.New("a header is not key=value")
	}
	return key, strings.TrimSpace(value), nil
}

// headerSource returns the extra headers; the command runs for every dial. It is
// nil if there are none, which spares relays a detour.
func (f flags) headerSource() func(context.Context) (http.Header, error) {
	if len(f.Header) == 0 && f.HeaderCommand == "" {
		return nil
	}
	return func(ctx context.Context) (http.Header, error) {
		lines := f.Header
		if f.HeaderCommand != "" {
			ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			shell, option := "sh", "-c"
			if runtime.GOOS == "windows" {
				shell, option = "cmd.exe", "/c"
			}
			command := exec.CommandContext(ctx, shell, option, f.HeaderCommand)
			command.WaitDelay = time.Second // a child of it may hold on to its output
			out, err := command.Output()
			if err != nil {
				return nil, fmt.Errorf("header command: %w", err)
			}
			lines = append(lines[:len(lines):len(lines)], strings.Split(strings.TrimSpace(string(out)), "\n")...)
		}
		h := http.Header{}
		for _, line := range lines {
			if strings.TrimSpace(line) == "" {
				continue
			}
			key, value, err := headerLine(line)
			if err != nil {
				return nil, fmt.Errorf("header command: %w", err)
			}
			h.Add(key, value)
		}
		return h, nil
	}
}

// stateDir is the default place of the state.
func (f flags) stateDir(getenv func(string) string) string {
	if f.StateDir != "" {
		return f.StateDir
	}
	if dir := getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "worktally-agent")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "worktally-agent")
	}
	return filepath.Join(home, ".local", "state", "worktally-agent")
}
