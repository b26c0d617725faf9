package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/internal/testtool"
)

// fetch gets a page as it is.
func fetch(ctx context.Context, client *http.Client, url string, prepare func(*http.Request)) (status int, header http.Header, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, nil, err
	}
	req.Close = true
	prepare(req)
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, body, err
}

func TestPages_AreReadByOthers(t *testing.T) {
	t.Parallel()
	w := start(t, ticking)
	// Something of everything is on the pages.
	h := w.hold("-o", "SetEnv=CODER_SSH_SESSION_TYPE=vscode")
	put := w.SFTPCommand(t.Context(), w.agent.SSH.Addr())
	put.Stdin = strings.NewReader("put " + w.write("file", "content") + " " + w.Path("copy") + "\n")
	if out, err := put.CombinedOutput(); err != nil {
		t.Fatalf("sftp: %v: %s", err, out)
	}
	w.awaitPage(patience, "sessions and scripts", func(p stack.Page) bool {
		return p.Sum("coderd_agentstats_session_count_vscode") == 1 && p.Sum("agent_session_duration_seconds") == 1 &&
			p.Sum("agent_scripts_executed_total", `success="true"`) > 0
	})
	for name, address := range map[string]string{"agent": w.agent.Page, "server": w.server.Page} {
		t.Run(name, func(t *testing.T) { readByOthers(t, "http://"+address+"/metrics") })
	}
	h.end(w)
}

func readByOthers(t *testing.T, url string) {
	get := func(open bool) []byte {
		accept := "text/plain;version=0.0.4"
		if open {
			accept = "application/openmetrics-text;version=1.0.0"
		}
		status, header, body, err := fetch(t.Context(), http.DefaultClient, url, func(r *http.Request) { r.Header.Set("Accept", accept) })
		if err != nil || status != http.StatusOK {
			t.Fatal(status, err)
		}
		if got := header.Get("Content-Type"); strings.HasPrefix(got, "application/openmetrics-text") != open {
			t.Errorf("asked for %s, got %s", accept, got)
		}
		if c := testtool.ParseWithPython(t, body, open); c != "" {
			t.Errorf("python, OpenMetrics %t: %s", open, c)
		}
		return body
	}
	text, open, again := get(false), get(true), get(false)
	if c := testtool.Lint(t, text); c != "" {
		t.Errorf("promtool: %s", c)
	}
	page, err := stack.ParsePage(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"agent_scripts_executed_total", "agent_session_duration_seconds", "coderd_agentstats_session_count_vscode", "coderd_agentstats_startup_script_seconds",
		"go_goroutines", "go_memstats_lookups_total", "process_open_fds", "promhttp_metric_handler_requests_total",
	} {
		if !page.Has(name) {
			t.Errorf("expfmt finds no %s", name)
		}
	}
	for _, series := range seriesOf(text) {
		// A counter whose name does not end in _total is written as unknown, under
		// the same name; so every series of the one is in the other, unless it came or
		// went in between.
		if bytes.Contains(again, []byte("\n"+series+" ")) && !bytes.Contains(open, []byte("\n"+series+" ")) {
			t.Errorf("%s is not in the OpenMetrics page", series)
		}
	}
}

// seriesOf returns the series that both formats write alike.
func seriesOf(page []byte) (series []string) {
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "agent_") || strings.HasPrefix(line, "coderd_") || strings.HasPrefix(line, "worktally_") {
			series = append(series, line[:strings.LastIndexByte(line, ' ')])
		}
	}
	return series
}

func TestPages_TLSAndUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, config := w.webConfig("reader", "secret")
	serverHTTP, serverPage, agentPage := w.freeAddress(), w.freeAddress(), w.freeAddress()
	_, err := w.Start("worktally", nil, "worktally", "server", "--http-address", serverHTTP, "--state-dir", w.Path("server"),
		"--prometheus-enable", "--prometheus-address", serverPage, "--prometheus-web-config-file", config)
	w.must(err)
	// The page is there before the agent knows a server.
	token := w.write("token", "6c3c7b2e-6a6a-4d0b-8d6e-0f1c5f3c7f00\n")
	_, err = w.Start("worktally-agent", nil, "worktally-agent", "--agent-url", "http://"+serverHTTP, "--agent-token-file", token,
		"--state-dir", w.Path("agent"), "--log-dir", w.Path("logs"), "--prometheus-address", agentPage, "--web-config-file", config)
	w.must(err)
	for name, address := range map[string]string{"server": serverPage, "agent": agentPage} {
		w.await(patience, "the "+name+"'s page", func(ctx context.Context) error {
			return onlyForReader(ctx, client, address)
		})
	}
}

// onlyForReader: the page is there with TLS and password, and not otherwise.
func onlyForReader(ctx context.Context, client *http.Client, address string) error {
	for _, tc := range []struct {
		url, user, password string
		want                int
	}{
		{"https://" + address + "/metrics", "reader", "secret", http.StatusOK},
		{"https://" + address + "/metrics", "reader", "wrong", http.StatusUnauthorized},
		{"https://" + address + "/metrics", "", "", http.StatusUnauthorized},
		{"http://" + address + "/metrics", "reader", "secret", http.StatusBadRequest},
	} {
		status, _, body, err := fetch(ctx, client, tc.url, func(r *http.Request) {
			if tc.user != "" {
				r.SetBasicAuth(tc.user, tc.password)
			}
		})
		if err != nil {
			return err
		}
		if shown := bytes.Contains(body, []byte("go_goroutines ")); status != tc.want || shown != (tc.want == http.StatusOK) {
			return fmt.Errorf("%s as %q with password %q: %d, page shown: %t", tc.url, tc.user, tc.password, status, shown)
		}
	}
	return nil
}

func TestPages_BadWebConfigIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.spoiled = true
	config := w.write("web.yml", "tls_server_config:\n  cert_file: /nonexistent\n  key_file: /nonexistent\n")
	for _, args := range [][]string{
		{"worktally", "server", "--state-dir", w.Path("server"), "--http-address", w.freeAddress(), "--prometheus-enable", "--prometheus-address", w.freeAddress(), "--prometheus-web-config-file", config},
		{"worktally-agent", "--agent-url", "http://127.0.0.1:1", "--agent-token-file", "x", "--prometheus-address", w.freeAddress(), "--web-config-file", config},
	} {
		p, err := w.Start(args[0], nil, args[0], args[1:]...)
		w.must(err)
		w.await(patience, args[0]+" refuses to start", func(context.Context) error {
			if !p.Exited() {
				return errors.New("it runs")
			}
			return nil
		})
		log, err := os.ReadFile(p.Log)
		w.must(err)
		if p.ExitCode() == 0 || !strings.Contains(string(log), config) {
			t.Errorf("%s: exit code %d: %s", args[0], p.ExitCode(), log)
		}
	}
}

func (w *world) freeAddress() string {
	w.t.Helper()
	address, err := stack.FreeAddress()
	w.must(err)
	return address
}

// webConfig writes a web config file with TLS and one user, and returns a client
// that trusts the certificate.
func (w *world) webConfig(user, password string) (client *http.Client, path string) {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	w.must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	w.must(err)
	certFile := w.write("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	keyFile := w.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	w.must(err)
	certificate, err := x509.ParseCertificate(der)
	w.must(err)
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}, w.write("web.yml", fmt.Sprintf(
		"tls_server_config:\n  cert_file: %s\n  key_file: %s\nbasic_auth_users:\n  %s: %s\n", certFile, keyFile, user, hash))
}
