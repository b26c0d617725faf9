package webserve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newCertificate writes a certificate and its key, which is its own authority,
// as name.crt and name.key.
func newCertificate(t *testing.T, dir, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+".crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// visit makes one request over a connection of its own.
func visit(t *testing.T, url string, c *tls.Config) (*http.Response, error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: c, ForceAttemptHTTP2: true}, Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	return resp, err
}

func roots(t *testing.T, dir, name string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name+".crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

// TestServe_TLS: clients are asked who they are, and a new certificate is used
// without a restart.
func TestServe_TLS(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web.good.yml")
	newCertificate(t, dir, "server")
	friend, stranger := newCertificate(t, dir, "friend"), newCertificate(t, dir, "stranger")
	friends, err := os.ReadFile(filepath.Join(dir, "friend.crt"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(dir, "stranger.crt"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "authorities"), string(friends)+string(other))
	write(t, file, `tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_ca_file: authorities
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [friend]
  min_version: TLS13
  curve_preferences: [X25519]
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
http_server_config:
  headers: {X-Frame-Options: deny}
`)
	if err := Validate(file); err != nil {
		t.Fatal(err)
	}
	url, stop := start(t, Options{ConfigFile: file, Handler: http.NotFoundHandler()})
	url = strings.Replace(url, "http:", "https:", 1)
	first := roots(t, dir, "server")
	resp, err := visit(t, url, &tls.Config{RootCAs: first, Certificates: []tls.Certificate{friend}})
	if err != nil || resp.StatusCode != http.StatusNotFound || resp.ProtoMajor != 2 || resp.Header.Get("X-Frame-Options") != "deny" {
		t.Errorf("a friend: %+v, %v", resp, err)
	}
	if _, err := visit(t, url, &tls.Config{RootCAs: first, Certificates: []tls.Certificate{stranger}}); err == nil {
		t.Error("a stranger comes in")
	}
	if _, err := visit(t, url, &tls.Config{RootCAs: first}); err == nil {
		t.Error("somebody without a certificate comes in")
	}
	newCertificate(t, dir, "server")
	if _, err := visit(t, url, &tls.Config{RootCAs: roots(t, dir, "server"), Certificates: []tls.Certificate{friend}}); err != nil {
		t.Errorf("the new certificate: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestServe_ConfigChanges: a mistake that is made later lets nobody in, and its
// end lets everybody in again.
func TestServe_ConfigChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	good := "http_server_config:\n  http2: false\n"
	write(t, file, good)
	url, stop := start(t, Options{ConfigFile: file, Handler: http.NotFoundHandler()})
	for _, step := range []struct {
		text string
		want int
	}{
		{good, http.StatusNotFound},
		{"nonsense: 1\n", http.StatusInternalServerError},
		{"basic_auth_users: {a: " + nobodysHash + "}\n", http.StatusUnauthorized},
		{"", http.StatusNotFound},
	} {
		write(t, file, step.text)
		if resp, err := visit(t, url, nil); err != nil || resp.StatusCode != step.want {
			t.Errorf("%q: %v, %v", step.text, resp, err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestServe_RateLimit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.good.yml")
	write(t, file, "rate_limit: {interval: 1h, burst: 2}\n")
	url, stop := start(t, Options{ConfigFile: file, Handler: http.NotFoundHandler()})
	for _, want := range []int{http.StatusNotFound, http.StatusNotFound, http.StatusTooManyRequests} {
		if resp, err := visit(t, url, nil); err != nil || resp.StatusCode != want {
			t.Errorf("%v, %v, want %d", resp, err, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestServe_BadConfig: the listener is not left behind.
func TestServe_BadConfig(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), l, Options{ConfigFile: "/nonexistent", Handler: http.NotFoundHandler()}); err == nil {
		t.Error("no error")
	}
	if _, err := l.Accept(); err == nil {
		t.Error("the listener is open")
	}
}

func TestValidate_WhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	newCertificate(t, dir, "server")
	pair := "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
	for text, want := range map[string]string{
		"tls_server_config: {key_file: server.key}":                        "one of cert and cert_file",
		"tls_server_config: {cert_file: server.crt}":                       "one of key and key_file",
		"tls_server_config: {cert_file: none, key_file: server.key}":       "cert_file: open " + dir,
		"tls_server_config: {cert_file: server.key, key_file: server.key}": "cert and key: ",
		pair + "  client_auth_type: Perhaps":                               `client_auth_type: "Perhaps"`,
		pair + "  client_ca_file: server.crt":                              "client_ca without a client_auth_type",
		pair + "  client_ca: x\n  client_auth_type: RequestClientCert":     "client_ca: there is no certificate",
		pair + "  min_version: SSL3":                                       `min_version: "SSL3"`,
		pair + "  max_version: SSL3":                                       `max_version: "SSL3"`,
		pair + "  cipher_suites: [ROT13]":                                  `cipher_suites: "ROT13"`,
		pair + "  curve_preferences: [Straight]":                           `curve_preferences: "Straight"`,
		"basic_auth_users: {ann: plain}":                                   `basic_auth_users: "ann" has no bcrypt hash`,
		"http_server_config: {headers: {Server: x}}":                       `the header "Server"`,
		"http_server_config: {headers: {X-Content-Type-Options: x}}":       "X-Content-Type-Options is none of",
		"rate_limit: {burst: -1}":                                          "rate_limit",
		"basic_auth_users: {a: 1}\nbasic_auth_users: {a: 1}":               "already defined",
		"[]": "cannot unmarshal",
	} {
		file := filepath.Join(dir, "web.bad.yml")
		write(t, file, text+"\n")
		if err := Validate(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("tls_server_config: {cert: x, key: y, min_version: TLS12}\nrate_limit: {interval: 1s}\n"))
	f.Add([]byte("basic_auth_users: {a: " + nobodysHash + "}\nhttp_server_config: {headers: {X-Frame-Options: deny}}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse(text)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
		if c != nil && c.TLS.CertFile+c.TLS.KeyFile+c.TLS.ClientCAFile == "" && c.TLS.enabled() {
			_, _ = c.TLS.build() // must not panic
		}
	})
}
