package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/worktally/worktally/internal/testpki"
)

// startSecure starts a server with TLS and an authority of its own, which everybody
// trusts by file. below is added to the TLS part of its configuration.
func startSecure(t *testing.T, below string, args ...string) (*world, *testpki.Authority) {
	t.Helper()
	w := newWorld(t)
	ca := testpki.New(t, w.Dir, "ca")
	ca.Issue(t, "server")
	config := w.write("web.yml", "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"+below)
	w.Env = append(w.Env, "WORKTALLY_TLS_CA_FILE="+ca.File, "WORKTALLY_AGENT_TLS_CA_FILE="+ca.File)
	var err error
	w.server, err = w.StartServer(t.Context(), interval, append([]string{"--http-web-config-file", config, "--block-direct-connections"}, args...)...)
	w.must(err)
	w.server.Secure = true
	return w, ca
}

// echo runs a command in the workspace through the server's relay.
func (w *world) echo(env ...string) error {
	cmd := w.server.Command(w.t.Context(), "ssh", "--wait-timeout", "1m", "--disable-direct-connections", "ws", "--", "echo there")
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "there" {
		return fmt.Errorf("worktally ssh: %q, %v", out, err)
	}
	return nil
}

// serverSerial is the number of the certificate that new connections see.
func (w *world) serverSerial(ca string) (*big.Int, error) {
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	c, err := tls.Dial("tcp", w.server.Address, &tls.Config{RootCAs: roots})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber, nil
}

// TestTLS: agent, commands and the relay between them speak TLS with the server, on
// one port, trusting an authority that the system does not know. A renewed
// certificate is served without a restart, and nobody notices.
func TestTLS(t *testing.T) {
	t.Parallel()
	for name, flag := range map[string]string{"relay": "", "relay by websocket": "--derp-force-websockets"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, ca := startSecure(t, "", strings.Fields(flag)...)
			w.apply(spec("ws", ""))
			w.startAgent()
			w.awaitReport()
			w.must(w.echo())
			h := w.hold()
			renewed := ca.Issue(t, "server")
			if serial, err := w.serverSerial(ca.File); err != nil || serial.Cmp(renewed) != 0 {
				t.Errorf("the server shows certificate %v, %v, want the renewed one %v", serial, err, renewed)
			}
			w.must(w.echo())
			w.awaitReport()
			h.end(w)
		})
	}
}

// TestTLS_Helpers: git in a workspace asks the server for the key with the trust of
// the agent, although the agent has it from its flags alone.
func TestTLS_Helpers(t *testing.T) {
	t.Parallel()
	w, ca := startSecure(t, "")
	w.Env = slices.DeleteFunc(w.Env, func(e string) bool { return strings.HasPrefix(e, "WORKTALLY_AGENT_") })
	w.apply(spec("ws", ""))
	w.startAgent("--tls-ca-file", ca.File)
	w.awaitReport()
	cmd := w.server.Command(t.Context(), "ssh", "--wait-timeout", "1m", "ws", "--", "env -u SSH_AUTH_SOCK $GIT_SSH_COMMAND -o ProxyCommand=false nobody@127.0.0.1; echo $WORKTALLY_AGENT_TLS_CA_FILE")
	out, err := cmd.CombinedOutput()
	// ssh fails as it was told to; the wrapper then shows the key that it got.
	if err != nil || !strings.Contains(string(out), "ssh-ed25519 ") || !strings.Contains(string(out), ca.File) {
		t.Errorf("gitssh: %s, %v", out, err)
	}
}

// TestTLS_Mutual: a server that wants certificates of its clients lets nobody in
// without one: no agent, no command, no relay. With one, everything works, and a
// certificate of another authority is none.
func TestTLS_Mutual(t *testing.T) {
	t.Parallel()
	w, ca := startSecure(t, "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n")
	ca.Issue(t, "client")
	show := func(name, prefix string) []string {
		return []string{prefix + "_TLS_CLIENT_CERT_FILE=" + w.Path(name+".crt"), prefix + "_TLS_CLIENT_KEY_FILE=" + w.Path(name+".key")}
	}
	for name, env := range map[string][]string{"none": nil, "of another authority": show("stranger", "WORKTALLY")} {
		testpki.New(t, w.Dir, "strangers").Issue(t, "stranger")
		// The server hangs up with its alert; a client that still writes may see the
		// hanging up alone. Whatever it sees, it is never let in.
		w.await(patience, "the command says why, certificate "+name, func(ctx context.Context) error {
			cmd := w.server.Command(ctx, "workspace", "list")
			cmd.Env = append(cmd.Env, env...)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Errorf("certificate %s: %s", name, out)
			}
			if err == nil || strings.Contains(string(out), "certificate") {
				return nil
			}
			return fmt.Errorf("it says %s", out)
		})
	}
	common := len(w.Env)
	w.Env = append(w.Env, show("client", "WORKTALLY")...)
	w.apply(spec("ws", ""))
	w.turnedAway("certificate required")
	w.Env = append(w.Env, show("client", "WORKTALLY_AGENT")...)
	w.startAgent()
	w.awaitReport()
	w.must(w.echo())
	// The agent's certificate is read again when it connects again.
	ca.Issue(t, "client")
	w.must(w.server.Stop(patience))
	w.must(w.server.Start(t.Context()))
	w.awaitReport()
	w.must(w.echo())
	w.Env = w.Env[:common]
}

// TestTLS_WrongAuthority: an agent and a command that do not trust the server's
// authority say so, and send no token.
func TestTLS_WrongAuthority(t *testing.T) {
	t.Parallel()
	w, _ := startSecure(t, "")
	w.apply(spec("ws", ""))
	other := testpki.New(t, w.Dir, "other").File
	w.turnedAway("certificate signed by unknown authority", "--tls-ca-file", other)
	cmd := w.server.Command(t.Context(), "ssh", "ws")
	cmd.Env = append(cmd.Env, "WORKTALLY_TLS_CA_FILE="+other)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "certificate signed by unknown authority") {
		t.Errorf("worktally ssh: %s, %v", out, err)
	}
	if p, err := w.server.Metrics(t.Context()); err != nil || p.Sum("worktally_agent_sessions") != 0 {
		t.Errorf("sessions with the server: %v, %v", p.Sum("worktally_agent_sessions"), err)
	}
}

// TestTLS_UsersAreRefused: a file with users would lock all agents out.
func TestTLS_UsersAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, config := w.webConfig("ann", "secret")
	s := w.NewServer("")
	s.Args = []string{"--http-web-config-file", config}
	if err := s.Start(t.Context()); err == nil {
		t.Fatal("the server has started")
	}
	w.spoiled = true
	text, err := os.ReadFile(s.Log)
	if err != nil || !strings.Contains(string(text), "basic_auth_users") || !strings.Contains(string(text), "client_auth_type") {
		t.Errorf("%s: %s, %v", filepath.Base(s.Log), text, err)
	}
}

// turnedAway starts an agent, waits until it says why it is alone, and stops it.
func (w *world) turnedAway(why string, args ...string) {
	w.t.Helper()
	p, err := w.Start("turned-away", nil, "worktally-agent", append([]string{
		"--agent-url", w.server.URL(), "--agent-token-file", w.write("token", w.token), "--state-dir", w.Path("turned-away"), "--prometheus-address", "",
	}, args...)...)
	w.must(err)
	w.await(patience, "the agent says why", func(context.Context) error {
		text, err := os.ReadFile(p.Log)
		if err == nil && !strings.Contains(string(text), why) {
			err = errors.New("the agent does not say " + why)
		}
		return err
	})
	w.must(p.Stop(patience))
}
