package webserve

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/exporter-toolkit/web"
)

// TestValidate_LikeTheToolkit: of every file with which the toolkit that defines
// the format is tested, and of every one of its fields with a value that is wrong,
// we think what the toolkit thinks.
func TestValidate_LikeTheToolkit(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/exporter-toolkit").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "web", "testdata")
	files, err := filepath.Glob(filepath.Join(dir, "*.y*ml"))
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files of the toolkit, %v", len(files), err)
	}
	for _, file := range files {
		compare(t, file)
	}
	mine := t.TempDir()
	newCertificate(t, mine, "server")
	pair := "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
	for _, text := range []string{
		"", "{}", "[]", "a", "basic_auth_users: {}", "basic_auth_users: {a: }", "basic_auth_users: {a: [b]}",
		"rate_limit: {interval: 1}", "rate_limit: {interval: soon}", "rate_limit: {interval: 2s, burst: 3}",
		"http_server_config: {http2: perhaps}", "http_server_config: {headers: {X-Frame-Options: sameorigin}}", "http_server_config: {headers: {x-frame-options: deny}}",
		"http_server_config: {headers: {Content-Security-Policy: default-src}}", "http_server_config: {other: 1}",
		"tls_server_config: {}", "tls_server_config: {min_version: TLS12}", "tls_server_config: {min_version: TLS9}", "tls_server_config: {cipher_suites: [x]}",
		"tls_server_config: {client_allowed_sans: [x]}", pair, pair + "  cert: x\n", pair + "  key: x\n", pair + "  client_auth_type: NoClientCert\n",
		pair + "  client_auth_type: RequireClientCert\n", pair + "  client_auth_type: requireclientcert\n", pair + "  client_ca_file: server.crt\n",
		pair + "  client_ca_file: nowhere\n  client_auth_type: RequestClientCert\n", pair + "  client_ca_file: server.crt\n  client_auth_type: VerifyClientCertIfGiven\n",
		pair + "  min_version: TLS10\n  max_version: TLS11\n", pair + "  prefer_server_cipher_suites: false\n", pair + "  prefer_server_cipher_suites: 7\n",
		pair + "  curve_preferences: [CurveP256, X25519]\n", pair + "  cipher_suites: []\n", pair + pair,
	} {
		file := filepath.Join(mine, "web.yml")
		write(t, file, text)
		compare(t, file)
	}
}

// compare tells where our opinion of a file differs.
func compare(t *testing.T, file string) {
	t.Helper()
	theirs, ours := web.Validate(file), Validate(file)
	if (theirs == nil) != (ours == nil) {
		text, _ := os.ReadFile(file)
		t.Errorf("%s: the toolkit says %v, we say %v\n%s", filepath.Base(file), theirs, ours, text)
	}
}
