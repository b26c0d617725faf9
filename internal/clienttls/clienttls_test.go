package clienttls

import (
	"crypto/tls"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/worktally/worktally/internal/testpki"
)

// TestTransport: a server that asks for certificates is reached with the authority
// and a certificate of one's own, and sees the renewed one at the next connection.
func TestTransport(t *testing.T) {
	dir := t.TempDir()
	ca := testpki.New(t, dir, "ca")
	ca.Issue(t, "server")
	first := ca.Issue(t, "client")
	var seen *big.Int
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = r.TLS.PeerCertificates[0].SerialNumber
	}))
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	defer s.Close()
	s.Config.ErrorLog = nil
	f := Files{CA: ca.File, Cert: filepath.Join(dir, "client.crt"), Key: filepath.Join(dir, "client.key")}
	transport, err := f.Transport()
	if err != nil {
		t.Fatal(err)
	}
	transport.DisableKeepAlives = true
	client := &http.Client{Transport: transport}
	get := func() {
		t.Helper()
		resp, err := client.Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	if get(); seen.Cmp(first) != 0 {
		t.Errorf("the server saw certificate %s, want %s", seen, first)
	}
	renewed := ca.Issue(t, "client")
	if get(); seen.Cmp(renewed) != 0 {
		t.Errorf("the server saw certificate %s, want the renewed one %s", seen, renewed)
	}
	if c := ConfigOf(client); c == nil || c.RootCAs == nil || c.GetClientCertificate == nil {
		t.Errorf("settings of the client: %+v", c)
	}
	for name, f := range map[string]Files{"no authority": {}, "another one": {CA: testpki.New(t, dir, "other").File}} {
		transport, err := f.Transport()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = (&http.Client{Transport: transport}).Get(s.URL); err == nil || !strings.Contains(err.Error(), "unknown authority") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfig_Mistakes(t *testing.T) {
	dir := t.TempDir()
	ca := testpki.New(t, dir, "ca")
	ca.Issue(t, "client")
	cert, key := filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key")
	secret, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]Files{
		"no such file":               {CA: filepath.Join(dir, "nowhere")},
		"there is no certificate in": {CA: key},
		"go together":                {Cert: cert},
		"read the client":            {Cert: key, Key: cert},
	} {
		if _, err := f.Config(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), string(secret[40:80])) {
			t.Errorf("%+v: %v, want %q", f, err, want)
		}
	}
	if c, err := (Files{}).Config(); c != nil || err != nil {
		t.Errorf("no files: %v, %v", c, err)
	}
}
