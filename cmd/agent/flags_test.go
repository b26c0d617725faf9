//go:build unix

package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/internal/cliflag"
	"github.com/worktally/worktally/internal/exitcode"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

// contractFlags are those of "coder agent" with their variables (contract
// agent-cli.md section 1).
func contractFlags() map[string]string {
	return map[string]string{
		"agent-url": "CODER_AGENT_URL", "agent-token": "", "agent-token-file": "CODER_AGENT_TOKEN_FILE", "auth": "CODER_AGENT_AUTH",
		"log-dir": "CODER_AGENT_LOG_DIR", "script-data-dir": "CODER_AGENT_SCRIPT_DATA_DIR", "pprof-address": "CODER_AGENT_PPROF_ADDRESS",
		"prometheus-address": "CODER_AGENT_PROMETHEUS_ADDRESS", "debug-address": "CODER_AGENT_DEBUG_ADDRESS",
		"agent-header": "CODER_AGENT_HEADER", "agent-header-command": "CODER_AGENT_HEADER_COMMAND", "no-reap": "",
		"ssh-max-timeout": "CODER_AGENT_SSH_MAX_TIMEOUT", "tailnet-listen-port": "CODER_AGENT_TAILNET_LISTEN_PORT",
		"log-human": "CODER_AGENT_LOGGING_HUMAN", "log-json": "CODER_AGENT_LOGGING_JSON", "log-stackdriver": "CODER_AGENT_LOGGING_STACKDRIVER",
		"block-file-transfer":                    "CODER_AGENT_BLOCK_FILE_TRANSFER",
		"devcontainers-enable":                   "CODER_AGENT_DEVCONTAINERS_ENABLE",
		"devcontainers-project-discovery-enable": "CODER_AGENT_DEVCONTAINERS_PROJECT_DISCOVERY_ENABLE",
		"block-local-port-forwarding":            "CODER_AGENT_BLOCK_LOCAL_PORT_FORWARDING",
		"block-reverse-port-forwarding":          "CODER_AGENT_BLOCK_REVERSE_PORT_FORWARDING",
	}
}

func TestHelp_ListsEveryFlagAndVariable(t *testing.T) {
	w := newWorld(t, nil)
	if code := run(t.Context(), w.process("--help")); code != exitcode.OK {
		t.Fatalf("code %d", code)
	}
	help := w.stdout.String()
	contract := contractFlags()
	for field := range reflect.TypeFor[flags]().Fields() {
		name, env := field.Tag.Get("name"), field.Tag.Get("envs")
		if want, ok := contract[name]; ok && want != env {
			t.Errorf("--%s has the variable %q, the contract says %q", name, env, want)
		}
		delete(contract, name)
		if _, hidden := field.Tag.Lookup("hidden"); hidden {
			continue
		}
		if !strings.Contains(help, "--"+name) {
			t.Errorf("help does not list --%s", name)
		}
		if env != "" && !strings.Contains(help, "$"+env) {
			t.Errorf("help does not name $%s", env)
		}
		if d := field.Tag.Get("default"); d != "" && d != "false" && d != "0" && !strings.Contains(help, d) {
			t.Errorf("help does not tell the default of --%s, %s", name, d)
		}
	}
	if len(contract) > 0 {
		t.Errorf("flags of the contract that are missing: %v", contract)
	}
	if !strings.Contains(help, "$CODER_AGENT_TOKEN") {
		t.Error("help does not name $CODER_AGENT_TOKEN")
	}
}

func parseFlags(t *testing.T, env map[string]string, args ...string) flags {
	t.Helper()
	var f flags
	var out strings.Builder
	if _, ok := (cliflag.Program{Name: "worktally-agent"}).Parse(&f, args, func(k string) string { return env[k] }, &out, &out); !ok {
		t.Fatal(out.String())
	}
	return f
}

// TestFlags_Precedence: flag, variable, default, for every flag with a variable.
func TestFlags_Precedence(t *testing.T) {
	values := map[reflect.Kind][2]string{reflect.String: {"one", "two"}, reflect.Bool: {"true", "false"}, reflect.Int64: {"11s", "12s"}, reflect.Uint16: {"11", "12"}, reflect.Slice: {"a=1", "b=2"}}
	for field := range reflect.TypeFor[flags]().Fields() {
		name, env := field.Tag.Get("name"), field.Tag.Get("envs")
		if env == "" {
			continue
		}
		v := values[field.Type.Kind()]
		if name == "auth" {
			v = [2]string{"aws-instance-identity", "azure-instance-identity"}
		}
		get := func(f flags) string {
			return cmp.Diff(reflect.ValueOf(flags{}).FieldByIndex(field.Index).Interface(), reflect.ValueOf(f).FieldByIndex(field.Index).Interface())
		}
		fromEnv := get(parseFlags(t, map[string]string{env: v[0]}))
		fromFlag := get(parseFlags(t, map[string]string{env: v[0]}, "--"+name+"="+v[1]))
		if both := get(parseFlags(t, nil, "--"+name+"="+v[1])); fromFlag != both {
			t.Errorf("--%s does not win over %s", name, env)
		}
		if fromEnv == fromFlag || fromEnv == get(parseFlags(t, nil)) {
			t.Errorf("%s has no effect", env)
		}
	}
}

func TestUsage_NamesFlagAndVariable(t *testing.T) {
	for _, tc := range []struct {
		name string
		env  map[string]string
		args []string
		want []string
	}{
		{"nothing given", nil, nil, []string{"--agent-url (CODER_AGENT_URL): no server is given", "--agent-token-file (CODER_AGENT_TOKEN_FILE, CODER_AGENT_TOKEN): no agent token is given"}},
		{"bad URL", nil, []string{"--agent-url=ftp://x"}, []string{`--agent-url (CODER_AGENT_URL): "ftp://x" is not`}},
		{"half of SSH", nil, []string{"--ssh-address=127.0.0.1:0"}, []string{"--ssh-address (WORKTALLY_AGENT_SSH_ADDRESS) and --ssh-authorized-keys (WORKTALLY_AGENT_SSH_AUTHORIZED_KEYS): give both or none"}},
		{"window", nil, []string{"--agent-stats-window=1ms"}, []string{"--agent-stats-window (WORKTALLY_AGENT_STATS_WINDOW): 1ms is less than 1s"}},
		{"timeout", map[string]string{"CODER_AGENT_SSH_MAX_TIMEOUT": "-1s"}, nil, []string{"--ssh-max-timeout (CODER_AGENT_SSH_MAX_TIMEOUT): -1s is not positive"}},
		{"header", nil, []string{"--agent-header=nonsense"}, []string{"--agent-header (CODER_AGENT_HEADER): a header is not key=value"}},
		{"subsystem", map[string]string{"CODER_AGENT_SUBSYSTEM": "envbox,other"}, nil, []string{`CODER_AGENT_SUBSYSTEM: "other" is none of envbox, envbuilder, exectrace`}},
		{"unparsable variable", map[string]string{"CODER_AGENT_SSH_MAX_TIMEOUT": "soon"}, nil, []string{"--ssh-max-timeout (CODER_AGENT_SSH_MAX_TIMEOUT): "}},
		{"choice", map[string]string{"CODER_AGENT_AUTH": "guess"}, nil, []string{"--auth (CODER_AGENT_AUTH) must be one of"}},
		{"unknown flag", nil, []string{"--bogus"}, []string{"unknown flag --bogus"}},
		{"web config", map[string]string{"CODER_AGENT_URL": "http://x", "CODER_AGENT_TOKEN": wiretest.Token, "WORKTALLY_AGENT_WEB_CONFIG_FILE": "/nonexistent"}, nil, []string{"--web-config-file (WORKTALLY_AGENT_WEB_CONFIG_FILE): "}},
		{"log", map[string]string{"CODER_AGENT_URL": "http://x", "CODER_AGENT_TOKEN": wiretest.Token, "CODER_AGENT_LOGGING_JSON": "/nonexistent/log"}, nil, []string{"--log-json (CODER_AGENT_LOGGING_JSON): "}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil)
			for k, v := range tc.env {
				w.env[k] = v
			}
			if code := run(t.Context(), w.process(tc.args...)); code != exitcode.Usage {
				t.Errorf("code %d", code)
			}
			for _, want := range tc.want {
				if !strings.Contains(w.stderr.String(), want) {
					t.Errorf("stderr does not have %q:\n%s", want, w.stderr.String())
				}
			}
			if strings.Contains(w.stderr.String(), wiretest.Token) {
				t.Error("the token is in the message")
			}
		})
	}
}

func TestSubsystems(t *testing.T) {
	got, err := subsystemsOf(" envbox, exectrace ,")
	if diff := cmp.Diff([]agentpb.Startup_Subsystem{agentpb.Startup_ENVBOX, agentpb.Startup_EXECTRACE}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"ENVBOX", "subsystem_unspecified", "x"} {
		if _, err := subsystemsOf(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestTokenSource(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	const other = "0e8b6d0e-58a9-4ed0-b5a0-6c0a76b0a0aa"
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(" " + other + "\n")
	none := func(string) string { return "" }
	env := func(string) string { return wiretest.Token }
	for _, tc := range []struct {
		name   string
		f      flags
		getenv func(string) string
		want   string
	}{
		{"flag", flags{Token: other, TokenFile: "/nonexistent"}, env, other},
		{"variable before file", flags{TokenFile: file}, env, wiretest.Token},
		{"file, trimmed", flags{TokenFile: file}, none, other},
	} {
		if got, err := tc.f.tokenSource(tc.getenv)(t.Context()); err != nil || got != tc.want {
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
	}
	source := flags{TokenFile: file}.tokenSource(none)
	write("secret nonsense")
	if _, err := source(t.Context()); err == nil || strings.Contains(err.Error(), "nonsense") {
		t.Errorf("no UUID: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := source(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "read token file: ") {
		t.Errorf("no file: %v", err)
	}
}

func TestHeaderSource(t *testing.T) {
	f := flags{Header: []string{"A=1", "B = two=2 "}, HeaderCommand: "printf 'C=3\\n\\nA=4\\n'"}
	got, err := f.headerSource()(t.Context())
	if diff := cmp.Diff(http.Header{"A": {"1", "4"}, "B": {"two=2"}, "C": {"3"}}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, command := range []string{"exit 1", "echo nonsense", "sleep 60"} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if _, err := (flags{HeaderCommand: command}).headerSource()(ctx); err == nil || !strings.HasPrefix(err.Error(), "header command: ") {
			t.Errorf("%s: %v", command, err)
		}
		cancel()
	}
	if !reflect.DeepEqual(f.Header, []string{"A=1", "B = two=2 "}) {
		t.Errorf("the flags have changed: %q", f.Header)
	}
}

func TestStateDir(t *testing.T) {
	for want, tc := range map[string]struct {
		f   flags
		xdg string
	}{
		"/given":                {flags{StateDir: "/given"}, "/xdg"},
		"/xdg/worktally-agent":  {flags{}, "/xdg"},
		"/.local/state/worktal": {flags{}, ""},
	} {
		if got := tc.f.stateDir(func(string) string { return tc.xdg }); !strings.Contains(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
