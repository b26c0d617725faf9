package tailnet

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/google/uuid"
	"tailscale.com/envknob"

	"github.com/worktally/worktally/tailnet/relay"
)

// startTLSRelay starts a relay that only speaks TLS, with the authority that its
// certificate is from.
func startTLSRelay(t *testing.T) (*url.URL, *x509.CertPool) {
	t.Helper()
	r, err := relay.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	r.Register(mux)
	s := httptest.NewTLSServer(mux)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close(); _ = r.Close() })
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return u, roots
}

// TestPreferPlainRelays: a plain relay needs nothing between with the preference and
// something without it; one that wants headers, or is trusted by settings of ours,
// always does. All are reached.
func TestPreferPlainRelays(t *testing.T) {
	plain := startRelay(t)
	secure, roots := startTLSRelay(t)
	header := func() http.Header { return http.Header{"X-Extra": {"1"}} }
	for _, preferred := range []bool{false, true} {
		if preferred {
			PreferPlainRelays()
			t.Cleanup(func() { envknob.Setenv(plainRelayKnob, "false") })
		}
		for name, tc := range map[string]struct {
			o     Options
			shims int
		}{
			"plain":              {Options{AccessURL: plain}, count(!preferred)},
			"plain with headers": {Options{AccessURL: plain, RelayHeader: header}, 1},
			"TLS":                {Options{AccessURL: secure, TLS: &tls.Config{RootCAs: roots}}, 1},
			"TLS with headers":   {Options{AccessURL: secure, TLS: &tls.Config{RootCAs: roots}, RelayHeader: header}, 1},
		} {
			tc.o.ID = uuid.New()
			n, err := New(tc.o)
			if err != nil {
				t.Fatal(err)
			}
			if err := n.SetRelayMap(relayMap()); err != nil {
				t.Fatal(err)
			}
			awaitSelf(t, n) // there is none without a connection to the relay
			n.relays.mu.Lock()
			got := len(n.relays.shims)
			n.relays.mu.Unlock()
			if got != tc.shims {
				t.Errorf("%s, preferred %v: %d servers between, want %d", name, preferred, got, tc.shims)
			}
			_ = n.Close()
		}
	}
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
